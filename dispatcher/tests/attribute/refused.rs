//! Nothing here can be a job. Behind each line that is wrong stands what is said there, and nothing else is.
use pp_dispatcher::job;
use std::borrow::Cow;

#[job]
fn reference(text: &str) {} //~ take an owned value; arguments are sent to another process (here: a String)

#[job]
fn lifetime<'a>(text: Cow<'a, str>) {} //~ a job cannot have lifetimes

#[job]
fn anonymous(text: Cow<'_, str>) {} //~ take an owned value

#[job]
fn generic<T>(value: T) {} //~ a job cannot be generic

#[job]
fn sized<const N: usize>(value: [u8; N]) {} //~ a job cannot be generic

#[job]
fn some(value: impl Clone) {} //~ name the type of the argument

#[job]
extern "C" fn foreign(n: u64) -> u64 { //~ a job cannot be an `extern` function
    n
}

#[job]
unsafe fn trusting() {} //~ a job cannot be unsafe

#[job]
async fn waiting() {} //~ a job cannot be async

#[job]
fn endless() -> ! { //~ a job has to end
    loop {}
}

#[job]
fn too_many(_: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8) {} //~ at most 12

#[job(timeout = 3)] //~ #[job] takes nothing in parentheses but the name of this library
fn limited() {}

#[job]
struct NoFunction; //~ #[job] belongs above a free function with a body

unsafe extern "C" {
    #[job]
    fn elsewhere(n: i32) -> i32; //~ #[job] belongs above a free function with a body
}

struct Shape;

impl Shape {
    #[job]
    fn associated(n: u64) -> u64 { //~ an associated function cannot be a job
        n
    }

    #[job]
    pub fn method(&self) {} //~ a method cannot be a job

    #[job]
    fn make() -> Self { //~ an associated function cannot be a job
        Shape
    }
}

trait Area {
    #[job]
    fn area(n: u64) -> u64 { //~ an associated function cannot be a job
        n
    }
}

impl Area for Shape {
    #[job]
    fn area(n: u64) -> u64 { //~ an associated function cannot be a job
        n
    }
}
