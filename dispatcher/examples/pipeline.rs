//! Three stages chained by callbacks: frames of a zoom into the Mandelbrot set are drawn, smoothed and compressed. The
//! callback of each stage submits the next one, so frames overtake each other; a bounded number of them is on its way.
//!
//! ```sh
//! cargo run --release --example pipeline          # 24 frames
//! cargo run --release --example pipeline -- 200   # that many
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows its results")]

use std::sync::mpsc::{self, Sender};

use pp_dispatcher::{Dispatcher, JobError, job};
use serde::{Deserialize, Serialize};

const WIDTH: usize = 320;
const HEIGHT: usize = 200;
/// Pictures take memory: no more frames than this are on their way at once.
const FRAMES_AT_ONCE: u32 = 8;

/// A grey picture.
#[derive(Serialize, Deserialize)]
struct Picture {
    frame: u32,
    pixels: Vec<u8>,
}

#[job]
fn draw(frame: u32) -> Picture {
    let scale = 3.0 * 0.9_f64.powf(f64::from(frame)) / WIDTH as f64;
    let at = |place: usize, size: usize| (place as f64 - size as f64 / 2.0) * scale;
    let pixel = |x, y| steps_to_escape(-0.743643 + at(x, WIDTH), 0.131825 + at(y, HEIGHT));
    Picture { frame, pixels: (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| pixel(x, y))).collect() }
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
        let rows = y.saturating_sub(1)..HEIGHT.min(y + 2);
        let (from, to) = (x.saturating_sub(1), WIDTH.min(x + 2));
        let near: Vec<_> =
            rows.flat_map(|row| &picture.pixels[row * WIDTH + from..row * WIDTH + to]).map(|p| u32::from(*p)).collect();
        (near.iter().sum::<u32>() / near.len() as u32) as u8
    };
    let pixels = (0..WIDTH * HEIGHT).map(|place| mean(place % WIDTH, place / WIDTH)).collect();
    Picture { pixels, ..picture }
}

/// Runs of equal pixels, each as its length and its grey.
#[job]
fn compress(picture: Picture) -> Vec<(u32, u8)> {
    picture.pixels.chunk_by(|a, b| a == b).map(|run| (run.len() as u32, run[0])).collect()
}

/// A frame that has left the pipeline, or why it did not get through.
struct Finished {
    frame: u32,
    runs: Result<usize, JobError>,
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
    let mut runs = 0;
    for frame in 0..frames {
        if frame >= FRAMES_AT_ONCE {
            runs += show(finished.recv()?)?;
        }
        start(&dispatcher, frame, sender.clone());
    }
    for _ in 0..frames.min(FRAMES_AT_ONCE) {
        runs += show(finished.recv()?)?;
    }
    println!("{frames} frames, {} pixels in {runs} runs\n\n{}", frames as usize * WIDTH * HEIGHT, dispatcher.stats());
    Ok(())
}

/// Sends a frame through all three stages.
fn start(dispatcher: &Dispatcher, frame: u32, finished: Sender<Finished>) {
    let (second, third) = (dispatcher.clone(), dispatcher.clone());
    let tell = move |runs| {
        // Nobody listens any more once another frame has failed.
        let _ = finished.send(Finished { frame, runs });
    };
    let compressed = |runs: Result<Vec<_>, _>, tell: &dyn Fn(_)| tell(runs.map(|runs| runs.len()));
    let smoothed = move |picture, tell: Box<dyn Fn(_) + Send>| match picture {
        Ok(picture) => drop(third.job(compress, (picture,)).callback(move |runs| compressed(runs, &tell)).submit()),
        Err(error) => tell(Err(error)),
    };
    let drawn = move |picture| match picture {
        Ok(picture) => {
            drop(second.job(smooth, (picture,)).callback(move |picture| smoothed(picture, Box::new(tell))).submit());
        }
        Err(error) => tell(Err(error)),
    };
    drop(dispatcher.job(draw, (frame,)).callback(drawn).submit());
}

fn show(finished: Finished) -> Result<usize, JobError> {
    let runs = finished.runs?;
    println!("frame {:>3}: {} pixels in {runs} runs", finished.frame, WIDTH * HEIGHT);
    Ok(runs)
}
