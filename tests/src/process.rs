//! Processes that end with the test that started them.
