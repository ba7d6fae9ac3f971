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
}
