//! Tests that need a process of their own, because they change what belongs to the process or look
//! at it: such a test starts its executable again for itself alone.

use super::signals;
use std::any::type_name;
use std::process::{Command, Output};

/// The environment variable by which a child knows that it is one.
pub const CHILD: &str = "FED_DISTILL_TEST_CHILD";

/// Returns the arguments with which this executable runs `test`, a function marked `#[test]`, alone
/// and in its main thread.
pub fn arguments<Test: Fn()>(_test: Test) -> Vec<&'static str> {
    // The name of the type of a function is its path: `executable::module::function`.
    let (_, name) = type_name::<Test>().split_once("::").unwrap();
    vec!["--exact", name, "--nocapture", "--test-threads=1"]
}

/// Returns the command that runs `test` alone in another process.
pub fn command<Test: Fn()>(test: Test) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments(test)).env(CHILD, "1");
    signals::heard(&mut command);
    command
}

/// Returns what `test` printed and how it ended in another process.
pub fn output<Test: Fn()>(test: Test) -> Output {
    command(test).output().unwrap()
}

/// Returns true in a process that [`command`] started.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Returns true in a process that runs `test` alone. Elsewhere, starts that process, panics unless
/// the test passes there, and returns false.
pub fn alone<Test: Fn()>(test: Test) -> bool {
    if !is_child() {
        let output = output(test);
        let text = String::from_utf8_lossy(&output.stdout);
        let passed = output.status.success() && text.contains("1 passed");
        assert!(
            passed,
            "{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    is_child()
}
