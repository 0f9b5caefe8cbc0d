//! Gives every binary the run path of the libtorch it was linked against, so that it starts without
//! LD_LIBRARY_PATH, and the library that libtorch's version, for the manifests.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The config tree is embedded in the library, and a new file in it is no change that the
    // compiler sees.
    println!("cargo:rerun-if-changed=config");
    // The real folder, not the stage folder of links: libtorch_cpu.so finds its neighbours relative
    // to itself.
    let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    let real = std::path::Path::new(&folder)
        .join("libtorch_cpu.so")
        .canonicalize()
        .ok()
        .and_then(|library| library.parent().map(|folder| folder.to_path_buf()))
        .unwrap_or_else(|| folder.clone().into());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", real.display());
    // A PyTorch installed by pip has no such file; the library then names the version that tch
    // binds.
    if let Ok(version) =
        std::fs::read_to_string(std::path::Path::new(&folder).join("../build-version"))
    {
        println!(
            "cargo:rustc-env=FED_DISTILL_LIBTORCH_VERSION={}",
            version.trim()
        );
    }
}
