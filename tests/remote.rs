//! One conformance suite for all remotes: each case of [`suite`] runs against every one of them.
//! What a remote stores is read back by another way than the one that wrote it.

#[path = "support/cloudinary.rs"]
mod cloudinary;
#[path = "remote/directory_only.rs"]
mod directory_only;
#[path = "support/double.rs"]
mod double;
#[path = "remote/place.rs"]
mod place;
#[path = "support/rails.rs"]
mod rails;
#[path = "remote/reading.rs"]
mod reading;
#[path = "support/s3.rs"]
mod s3;
#[path = "remote/s3_only.rs"]
mod s3_only;
#[path = "remote/storing.rs"]
mod storing;
#[path = "support/supabase.rs"]
mod supabase;

use place::Place;
use reading::*;
use storing::*;

const MIB: usize = 1 << 20;

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod directory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::Place::directory().await).await;
            })*
        }
        mod cloudinary_double {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::Place::cloudinary().await).await;
            })*
        }
        mod supabase_double {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::Place::supabase().await).await;
            })*
        }
        mod rails_archive {
            $(#[tokio::test]
            async fn $case() {
                if let Some(place) = super::Place::rails_archive().await {
                    super::$case(&place).await;
                }
            })*
        }
        mod rails_stock {
            $(#[tokio::test]
            async fn $case() {
                if let Some(place) = super::Place::rails_stock().await {
                    super::$case(&place).await;
                }
            })*
        }
        mod s3_in_process {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::Place::s3_in_process().await).await;
            })*
        }
        mod s3_on_seaweedfs {
            $(#[tokio::test]
            async fn $case() {
                if let Some(place) = super::Place::s3_on_seaweedfs().await {
                    super::$case(&place).await;
                }
            })*
        }
    };
}

suite![
    an_object_arrives_with_its_type_and_metadata,
    a_second_put_replaces_the_first,
    an_empty_file_arrives,
    a_large_file_arrives_with_its_type_and_metadata,
    files_on_part_boundaries_arrive,
    odd_names_arrive_as_they_are,
    long_names_arrive,
    other_bytes_than_promised_store_nothing,
    a_file_that_shrinks_meanwhile_stores_nothing,
    a_file_that_grows_meanwhile_arrives_as_it_was,
    a_put_given_up_half_way_stores_nothing,
    many_at_once_all_arrive,
    a_probe_leaves_nothing_behind,
    what_is_there_is_listed,
    what_is_there_can_be_asked_for,
    what_is_there_can_be_read,
    what_is_encoded_is_read_as_it_was,
    what_is_deleted_is_gone,
    many_are_deleted_at_once,
    what_is_there_is_copied,
    what_is_not_wanted_any_more_is_moved,
    a_copy_can_be_described_anew,
    a_large_object_is_copied,
    what_is_not_there_or_other_is_not_copied,
    urls_lead_to_the_object,
];
