//! Makes thumbnails of files, one after another on one thread:
//!
//! ```text
//! cargo run --release --example bench-thumbnails -- 200x300,fit=contain DIR FILE...
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use outboxfs::derive::thumbnail::{self, Options};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let spec = arguments.next().ok_or("what size? as in 200x300")?;
    let options: Options = spec.to_string_lossy().parse()?;
    let into = PathBuf::from(arguments.next().ok_or("into which directory?")?);
    let mut code = ExitCode::SUCCESS;
    for file in arguments.map(PathBuf::from) {
        if let Err(why) = make(&file, &options, &into) {
            eprintln!("{}: {why}", file.display());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Writes `a.png` as `a.png.jpeg`: two pictures never share a name.
fn make(file: &Path, options: &Options, into: &Path) -> Result<()> {
    let made = thumbnail::make(&std::fs::read(file)?, options)?;
    let mut name = file.file_name().ok_or("no file name")?.to_owned();
    name.push(".");
    name.push(made.format.name());
    std::fs::write(into.join(name), made.bytes)?;
    Ok(())
}
