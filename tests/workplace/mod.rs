//! The binary, run in a directory of its own.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::Command;

use assert_cmd::assert::{Assert, OutputAssertExt};
use tempfile::TempDir;

/// A directory of its own for each test, and the binary run in it.
pub struct Workplace(pub TempDir);

impl Workplace {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sirenc"));
        command.current_dir(self.0.path()).args(arguments.split_whitespace());
        command
    }

    /// A line for bash, in which `sirenc` is the binary.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        let line = line.replace("sirenc ", &format!("'{}' ", env!("CARGO_BIN_EXE_sirenc")));
        command.current_dir(self.0.path()).args(["-c", &line]);
        command
    }

    pub fn run(&self, arguments: &str) -> Assert {
        self.command(arguments).assert()
    }

    pub fn fails(&self, arguments: &str, message: &str) -> Assert {
        let assert = self.run(arguments).failure();
        let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        assert!(stderr.contains(message), "{arguments}: {stderr:?} lacks {message:?}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert
    }

    /// Runs the exported script `a.py`, which writes `out`.
    pub fn python(&self, out: &str, width: &str) {
        let mut python = Command::new("python3");
        python.current_dir(self.0.path()).args(["a.py", out, width]);
        python.assert().success();
    }

    /// Two pictures of one size, no sample of which differs by more than 1.
    pub fn alike(&self, ours: &str, theirs: &str) {
        let [ours, theirs] =
            [ours, theirs].map(|name| image::open(self.path(name)).unwrap().into_rgba8());
        assert_eq!(ours.dimensions(), theirs.dimensions());
        assert!(ours.iter().zip(theirs.iter()).all(|(a, b)| a.abs_diff(*b) <= 1));
    }
}

pub fn python_has_numpy() -> bool {
    let found = Command::new("python3").args(["-c", "import numpy"]).output();
    let found = found.is_ok_and(|output| output.status.success());
    // CI installs numpy; there, leaving this out would hide a failure.
    assert!(found || std::env::var_os("CI").is_none(), "numpy is not installed");
    found
}
