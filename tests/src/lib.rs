//! Shared parts of the tests of the whole: processes that end with the test, waiting on conditions, a `main` for tests
//! whose program is also its own worker.

pub mod adverts;
pub mod browser;
pub mod flood;
pub mod harness;
pub mod http;
pub mod network;
pub mod process;
pub mod random;
pub mod sim;
pub mod wait;
pub mod wiretap;
