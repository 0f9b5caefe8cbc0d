//! Compiles the C++ passes over memory; gives every binary the run path of the libtorch it was
//! linked against, so that it starts without LD_LIBRARY_PATH, and the library that libtorch's
//! version, for the manifests.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The config tree is embedded in the library, and a new file in it is no change that the
    // compiler sees.
    println!("cargo:rerun-if-changed=config");
    passes();
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

/// Plain C++ on OpenMP, without libtorch's headers.
fn passes() {
    let sources = [
        "src/lib/optim/steps.cpp",
        "src/lib/inversion/fused/activations.cpp",
        "src/lib/inversion/fused/images.cpp",
        "src/lib/model/stack/first.cpp",
        "src/lib/model/stack/lanes.cpp",
        "src/lib/inversion/fused/winograd.cpp",
    ];
    for file in sources
        .into_iter()
        .chain(["src/lib/passes.h", "src/lib/lanes.h"])
    {
        println!("cargo:rerun-if-changed={file}");
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .files(sources)
        .opt_level(3)
        .flag("-fopenmp")
        // A square root is an instruction, not a call that may set errno.
        .flag("-fno-math-errno")
        // Vectors of 64 bytes are passed between inlined functions only.
        .flag("-Wno-psabi")
        .compile("fed_distill_passes");
    // libtorch brings its own copy of this library, found first on the run path: one pool of
    // threads for both.
    println!("cargo:rustc-link-lib=gomp");
}
