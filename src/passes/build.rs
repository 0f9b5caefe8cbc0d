//! Compiles the passes: plain C++ on OpenMP, without libtorch's headers.

/// The sources and headers, below `src/lib`.
const SOURCES: [&str; 6] = [
    "inversion/fused/activations.cpp",
    "inversion/fused/images.cpp",
    "inversion/fused/winograd.cpp",
    "model/stack/first.cpp",
    "model/stack/lanes.cpp",
    "optim/steps.cpp",
];
const HEADERS: [&str; 2] = ["lanes.h", "passes.h"];

fn main() {
    let below = |file: &str| format!("../lib/{file}");
    println!("cargo:rerun-if-changed=build.rs");
    for file in SOURCES.iter().chain(&HEADERS) {
        println!("cargo:rerun-if-changed={}", below(file));
    }
    let mut build = cc::Build::new();
    build.cpp(true);
    if build.get_compiler().is_like_clang() {
        eprintln!(
            "error: the passes need g++ (its OpenMP, `libgomp`), and CXX is a Clang: CXX=g++"
        );
        std::process::exit(1);
    }
    build
        .std("c++17")
        .files(SOURCES.map(below))
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
