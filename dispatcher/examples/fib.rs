use pp_dispatcher::{Dispatcher, job};

#[job]
fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pp_dispatcher::init();
    let dispatcher = Dispatcher::builder().start()?;
    let jobs: Vec<_> = (20..36).map(|n| dispatcher.submit(fib, (n,))).collect();
    for job in jobs {
        println!("{}", job.wait()?);
    }
    println!("{}", dispatcher.stats());
    Ok(())
}
