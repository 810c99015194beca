//! Classifies one image with a package that `calib8 export` made:
//!
//! ```sh
//! cargo run --release -- PACKAGE_FOLDER IMAGE
//! ```

use std::error::Error;
use std::io::Write;

use calib8::Package;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(image)) = (arguments.next(), arguments.next()) else {
        return Err("usage: classify PACKAGE_FOLDER IMAGE".into());
    };
    let package = Package::open(&folder)?;
    let mut session = package.session()?;
    let outputs = session.run(&[package.input(&image)?])?;
    let scores: Vec<f32> = outputs.first().ok_or("the model has no output")?.iter().copied().collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut out = std::io::stdout().lock();
    for class in order.into_iter().take(5) {
        let name = package.classes.get(class).map_or("", String::as_str);
        writeln!(out, "{class:5} {:9.4} {name}", scores[class])?;
    }
    Ok(())
}
