//! Tells the code which CPython it is built for (`cfg(Py_3_12)`).

fn main() {
    #[cfg(feature = "python")]
    pyo3_build_config::use_pyo3_cfgs();
    println!("cargo:rustc-check-cfg=cfg(Py_3_12)");
    // Else any file of the package would do, and with it a LICENSE that maturin puts into a `.venv` here.
    println!("cargo:rerun-if-changed=build.rs");
}
