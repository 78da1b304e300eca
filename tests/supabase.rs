//! Supabase Storage by its own interface, as far as a double can stand for it: requests as the official
//! clients make them, what goes wrong, and files through a mount.

#[path = "supabase/clients.rs"]
mod clients;
#[path = "support/double.rs"]
mod double;
#[path = "support/each_fault.rs"]
mod each_fault;
#[path = "support/faults.rs"]
mod faults;
#[path = "supabase/line.rs"]
mod line;
#[path = "supabase/mounted.rs"]
mod mounted;
#[path = "support/objects.rs"]
mod objects;
#[path = "supabase/refused.rs"]
mod refused;
#[path = "support/rig.rs"]
mod rig;
#[path = "supabase/s3.rs"]
mod s3;
#[path = "support/supabase.rs"]
mod supabase;
#[path = "support/tree.rs"]
mod tree;
#[path = "support/world.rs"]
mod world;

use objects::{MIB, key, noise, open, put};
