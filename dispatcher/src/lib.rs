//! Every core on your network behind one function call.

pub mod core;
