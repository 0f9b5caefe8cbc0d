//! `device` and `threads`: what is accepted, and what a refusal says.

use crate::common::child;
use fed_distill::Class;
use fed_distill::federated::transport::{TIMEOUT, lead};
use fed_distill::runtime::{device, threads};
use tch::Device;

#[test]
fn unknown_device_lists_the_forms() {
    for wrong in ["gpu", "cuda:", "cuda:x", "CPU", ""] {
        let error = device::choose(wrong).unwrap_err();
        assert_eq!(error.class(), Class::Usage, "{wrong}");
        let text = error.to_string();
        assert!(text.contains(&format!("`{wrong}`")), "{text}");
        assert!(text.contains("auto, cpu, cuda, cuda:N"), "{text}");
    }
    for (typed, meant) in [("gpu", "cuda"), ("GPU:1", "cuda:1"), ("CPU", "cpu")] {
        let text = device::choose(typed).unwrap_err().to_string();
        assert!(
            text.ends_with(&format!("hint: did you mean `{meant}`?")),
            "{text}"
        );
    }
    let text = device::choose("tpu").unwrap_err().to_string();
    assert!(!text.contains("did you mean"), "{text}");
}

#[test]
fn cpu_is_always_there() {
    assert_eq!(device::choose("cpu").unwrap(), Device::Cpu);
}

#[test]
fn auto_and_cuda_agree_on_whether_there_is_a_gpu() {
    let auto = device::choose("auto").unwrap();
    match device::choose("cuda") {
        Ok(device) => assert_eq!((auto, device), (Device::Cuda(0), Device::Cuda(0))),
        Err(error) => {
            println!("no CUDA here, so its refusal is looked at:\n{error}");
            assert_eq!(auto, Device::Cpu);
            assert_eq!(error.class(), Class::Failed);
            let text = error.to_string();
            assert!(text.contains("`cuda` cannot be used"), "{text}");
            assert!(text.contains("available: cpu"), "{text}");
            assert!(text.contains("hint: `device=cpu`"), "{text}");
            assert!(text.contains("with an NVIDIA GPU: "), "{text}");
        }
    }
}

#[test]
fn a_cuda_device_beyond_the_last_is_refused() {
    let error = device::choose("cuda:4000").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`cuda:4000` cannot be used"), "{text}");
    assert!(
        text.contains("available: cpu") && text.contains("device=auto"),
        "{text}"
    );
}

#[test]
fn threads_are_cores_or_as_asked() {
    if !child::alone(threads_are_cores_or_as_asked) {
        return;
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(threads::set(None, 1).unwrap(), cores);
    assert_eq!(threads::set(Some(1), 1).unwrap(), 1);
    assert_eq!(tch::get_num_threads(), 1);
    for wrong in [0, 4 * cores + 1, usize::MAX] {
        let error = threads::set(Some(wrong), 1).unwrap_err();
        assert_eq!(error.class(), Class::Usage);
        assert!(
            error.to_string().contains(&format!("1 to {}", 4 * cores)),
            "{error}"
        );
    }
    assert_eq!(tch::get_num_threads(), 1, "a refusal changes nothing");
}

/// Those that were started wait for the others, and must hear that there are none. In a process of
/// a user who may have eight; root may have any number.
#[test]
fn ranks_that_cannot_start_end_the_others() {
    if !child::alone(ranks_that_cannot_start_end_the_others) {
        return;
    }
    const NOBODY: u32 = 65534;
    // SAFETY: changes the user and a limit of this process, in which no other test runs.
    let limited = unsafe {
        let limit = libc::rlimit {
            rlim_cur: 8,
            rlim_max: 8,
        };
        let user = libc::geteuid() != 0 || libc::setresuid(NOBODY, NOBODY, NOBODY) == 0;
        user && libc::setrlimit(libc::RLIMIT_NPROC, &limit) == 0
    };
    if !limited {
        println!("no other user can be taken on here; the limit cannot be shown");
        return;
    }
    let error = lead(
        TIMEOUT,
        vec![(); 40],
        |rank| rank.receive(1).map(drop),
        |(), rank| rank.receive(0).map(drop),
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("cannot start 40 threads") && error.contains("ulimit -u"),
        "{error}"
    );
}
