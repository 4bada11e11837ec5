//! Functions that can be submitted.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use pp_node::functions::{Registry, function_id};
use pp_protocol::FunctionId;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A function that takes the tuple `Args` and can be called in another process.
///
/// Implemented for every `fn` item of up to twelve arguments whose arguments can be serialised and whose result can be
/// deserialised. That it can be found there too is the business of `#[job]`, and checked when it is submitted.
pub trait JobFunction<Args>: Copy + 'static {
    /// What it returns.
    type Output: DeserializeOwned + Send + 'static;
}

macro_rules! job_function {
    ($($argument:ident),*) => {
        impl<F, R, $($argument),*> JobFunction<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> R + Copy + 'static,
            R: DeserializeOwned + Send + 'static,
            $($argument: Serialize),*
        {
            type Output = R;
        }
    };
}

job_function!();
job_function!(A);
job_function!(A, B);
job_function!(A, B, C);
job_function!(A, B, C, D);
job_function!(A, B, C, D, E);
job_function!(A, B, C, D, E, G);
job_function!(A, B, C, D, E, G, H);
job_function!(A, B, C, D, E, G, H, I);
job_function!(A, B, C, D, E, G, H, I, J);
job_function!(A, B, C, D, E, G, H, I, J, K);
job_function!(A, B, C, D, E, G, H, I, J, K, L);
job_function!(A, B, C, D, E, G, H, I, J, K, L, M);

/// A function as it is known to its program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownFunction {
    pub(crate) id: FunctionId,
    pub(crate) name: &'static str,
}

/// The full path of a function that was submitted.
pub(crate) fn name_of(id: FunctionId) -> &'static str {
    Registry::of_this_program().ok().and_then(|registry| registry.name(id)).unwrap_or("a function")
}

/// Looks a function up by what the compiler calls it. `Err` is that name, if it is not registered.
pub(crate) fn find<F>(_function: F) -> Result<KnownFunction, &'static str> {
    thread_local! {
        /// The function found last: most programs submit one function at a time.
        static LAST: Cell<Option<KnownFunction>> = const { Cell::new(None) };
    }
    static KNOWN: LazyLock<Mutex<HashMap<&'static str, FunctionId>>> = LazyLock::new(Mutex::default);

    let name = std::any::type_name::<F>();
    if let Some(last) = LAST.get()
        && std::ptr::eq(last.name, name)
    {
        return Ok(last);
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let id = match known.get(name) {
        Some(id) => *id,
        None => {
            let id = function_id(name);
            let registered = Registry::of_this_program().is_ok_and(|registry| registry.call(id).is_some());
            if !registered {
                return Err(name);
            }
            known.insert(name, id);
            id
        }
    };
    let found = KnownFunction { id, name };
    LAST.set(Some(found));
    Ok(found)
}
