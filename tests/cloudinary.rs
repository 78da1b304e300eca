//! Cloudinary, as far as a double can stand for it: requests as the official SDK makes them, what goes
//! wrong, and pictures through a mount.

#[path = "support/cloudinary.rs"]
mod cloudinary;
#[path = "support/double.rs"]
mod double;
#[path = "support/each_fault.rs"]
mod each_fault;
#[path = "support/faults.rs"]
mod faults;
#[path = "cloudinary/line.rs"]
mod line;
#[path = "cloudinary/mounted.rs"]
mod mounted;
#[path = "support/objects.rs"]
mod objects;
#[path = "support/page.rs"]
mod page;
#[path = "cloudinary/refused.rs"]
mod refused;
#[path = "support/rig.rs"]
mod rig;
#[path = "cloudinary/sdk.rs"]
mod sdk;
#[path = "cloudinary/shop.rs"]
mod shop;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use objects::{MIB, key, noise, open, put};
