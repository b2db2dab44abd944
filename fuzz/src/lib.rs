//! What must hold for any bytes from outside.
//!
//! Each module is the body of one fuzz target: `run` takes bytes and panics where a promise is broken. The binaries under
//! `fuzz_targets` hand them to libFuzzer; the tests here run the corpus through them with any toolchain. How to run them, and
//! what each promises: `docs/fuzzing.md`.

pub mod cursor;
pub mod identifiers;
pub mod jwt;
pub mod postgrest_error;
pub mod queue;
mod script;
pub mod snapshot;
mod stage;
pub mod value;
pub mod wire_client;
pub mod wire_server;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Runs what the corpus of a target holds. A failure names the file.
    fn replay(target: &str, run: fn(&[u8])) {
        struct Named(String);
        impl Drop for Named {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    eprintln!("in {}", self.0);
                }
            }
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{target} has no corpus");
        for file in files {
            let _named = Named(file.display().to_string());
            run(&std::fs::read(&file).unwrap());
        }
    }

    macro_rules! replay {
        ($($target:ident)*) => { $(
            #[test]
            fn $target() {
                replay(stringify!($target), crate::$target::run);
            }
        )* };
    }

    replay!(wire_server wire_client cursor queue value postgrest_error jwt identifiers snapshot);
}
