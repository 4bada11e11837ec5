//! Three stages chained by callbacks: frames of a zoom into the Mandelbrot set are drawn, smoothed and compressed. The
//! callback of each stage submits the next one, so frames overtake each other; a bounded number of them is on its way.
//!
//! ```sh
//! cargo run --release --example pipeline          # 24 frames
//! cargo run --release --example pipeline -- 200   # that many
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows its results")]

use std::sync::mpsc::{self, Sender};

use pp_dispatcher::{Dispatcher, JobError, JobFunction, job};
use serde::Serialize;

const WIDTH: usize = 320;
const HEIGHT: usize = 200;
/// Pictures take memory: no more frames than this are on their way at once.
const FRAMES_AT_ONCE: u32 = 8;

/// The grey of each pixel, row by row.
type Picture = Vec<u8>;

#[job]
fn draw(frame: u32) -> Picture {
    let scale = 3.0 * 0.9_f64.powf(f64::from(frame)) / WIDTH as f64;
    let at = |place: usize, size: usize| (place as f64 - size as f64 / 2.0) * scale;
    let pixel = |x, y| steps_to_escape(-0.743643 + at(x, WIDTH), 0.131825 + at(y, HEIGHT));
    (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| pixel(x, y))).collect()
}

/// Steps in which z = z² + c leaves the circle of radius 2, up to 255.
fn steps_to_escape(re: f64, im: f64) -> u8 {
    let (mut x, mut y) = (0.0, 0.0);
    for step in 0..u8::MAX {
        if x * x + y * y > 4.0 {
            return step;
        }
        (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
    }
    u8::MAX
}

/// Each pixel becomes the mean of itself and its neighbours.
#[job]
fn smooth(picture: Picture) -> Picture {
    let mean = |x: usize, y: usize| {
        let columns = x.saturating_sub(1)..WIDTH.min(x + 2);
        let rows = y.saturating_sub(1)..HEIGHT.min(y + 2);
        let (mut sum, mut count) = (0, 0);
        for row in rows {
            for pixel in &picture[row * WIDTH..][columns.clone()] {
                sum += u32::from(*pixel);
                count += 1;
            }
        }
        (sum / count) as u8
    };
    (0..WIDTH * HEIGHT).map(|place| mean(place % WIDTH, place / WIDTH)).collect()
}

/// Runs of equal pixels, each as its length and its grey.
#[job]
fn compress(picture: Picture) -> Vec<(u32, u8)> {
    picture.chunk_by(|a, b| a == b).map(|run| (run.len() as u32, run[0])).collect()
}

/// A frame on its way.
struct Frame {
    number: u32,
    dispatcher: Dispatcher,
    /// Channel for the number of runs that the frame has in the end, or the reason why it did not get there.
    finished: Sender<(u32, Result<usize, JobError>)>,
}

impl Frame {
    fn start(self) {
        let number = self.number;
        self.stage(draw, (number,), |frame, picture| {
            frame.stage(smooth, (picture,), |frame, picture| {
                frame.stage(compress, (picture,), |frame, runs| frame.finish(Ok(runs.len())));
            });
        });
    }

    /// Submits a stage. Its callback goes on to the next one with the result.
    fn stage<F, A>(self, function: F, args: A, next: impl FnOnce(Self, F::Output) + Send + 'static)
    where
        F: JobFunction<A>,
        A: Serialize,
    {
        let job = self.dispatcher.job(function, args);
        job.callback(|result| match result {
            Ok(result) => next(self, result),
            Err(error) => self.finish(Err(error)),
        })
        .submit();
    }

    fn finish(self, runs: Result<usize, JobError>) {
        // Nobody listens any more if another frame has failed.
        let _ = self.finished.send((self.number, runs));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pp_dispatcher::init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let frames = match arguments.as_slice() {
        [] => Some(24),
        [told] => told.parse().ok(),
        _ => None,
    };
    let Some(frames) = frames else {
        eprintln!("usage: pipeline [FRAMES]\nFRAMES is a whole number. Default: 24");
        std::process::exit(2);
    };

    let dispatcher = Dispatcher::builder().discover_by_default(true).start()?;
    let (sender, finished) = mpsc::channel();
    for number in 0..frames {
        if number >= FRAMES_AT_ONCE {
            show(finished.recv()?)?;
        }
        Frame { number, dispatcher: dispatcher.clone(), finished: sender.clone() }.start();
    }
    for _ in 0..frames.min(FRAMES_AT_ONCE) {
        show(finished.recv()?)?;
    }
    println!("{frames} frames finished\n\n{}", dispatcher.stats());
    Ok(())
}

fn show((frame, runs): (u32, Result<usize, JobError>)) -> Result<(), JobError> {
    println!("frame {frame}: {} pixels in {} runs", WIDTH * HEIGHT, runs?);
    Ok(())
}
