//! Makes thumbnails of files, one after another on one thread:
//!
//! ```text
//! cargo run --release --example bench-thumbnails -- 200x300,fit=contain DIR FILE...
//! ```
//!
//! As `outboxfs` does, it calls itself for what C libraries decode.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use outboxfs::derive::decode;
use outboxfs::derive::thumbnail::{Helper, Limits, Options, make_all};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let spec = arguments.next().ok_or("what size? as in 200x300")?;
    if spec == "decode" {
        let memory = arguments.next().ok_or("how much memory?")?;
        decode::run(memory.to_string_lossy().parse()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let options: Options = spec.to_string_lossy().parse()?;
    let mut helper = Helper::new("/proc/self/exe".into(), &Limits::default());
    let into = PathBuf::from(arguments.next().ok_or("into which directory?")?);
    let mut code = ExitCode::SUCCESS;
    for file in arguments.map(PathBuf::from) {
        if let Err(why) = make(&file, &options, &into, &mut helper) {
            eprintln!("{}: {why}", file.display());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Writes `a.png` as `a.png.jpeg`: two pictures never share a name.
fn make(file: &Path, options: &Options, into: &Path, helper: &mut Helper) -> Result<()> {
    let picture = std::fs::read(file)?;
    let wanted = std::slice::from_ref(options);
    for made in make_all(&picture, wanted, &Limits::default(), Some(helper))? {
        let mut name = file.file_name().ok_or("no file name")?.to_owned();
        name.push(".");
        name.push(made.format.name());
        std::fs::write(into.join(name), made.bytes)?;
    }
    Ok(())
}
