//! The tutorial's shop, step by step.

use std::fs;

use super::cloudinary::{CLOUD, Service, credentials};
use super::page::Page;
use super::rig::Rig;
use super::tree::make_picture;

/// Somebody's catalogue, as a spreadsheet writes it.
const CATALOGUE: &str = "name;price;url\r\n\"Shoe; red\";49,90;\r\n";

#[test]
fn a_shop() {
    let Some(mut rig) = Rig::new() else { return };
    rig.world.variables.clear();
    let service = Service::start();
    service.state.lock().looks = true;
    let world = &rig.world;
    fs::rename(rig.pictures(), world.path("products")).unwrap();
    for (product, pictures) in [("4711_red", 3), ("4711_blue", 2), ("0815_green", 1)] {
        fs::create_dir(world.path("products").join(product)).unwrap();
        for number in 0..pictures {
            let name = format!("products/{product}/{number}.jpg");
            make_picture(&world.path(&name), 300 + number, 200);
        }
    }
    let catalogue = world.path("srv/catalogue.csv");
    fs::create_dir(world.path("srv")).unwrap();
    fs::write(&catalogue, CATALOGUE).unwrap();
    Page::read("shop")
        .with("cloudinary://KEY:SECRET@CLOUD", &credentials())
        .with(
            "cloudinary://CLOUD/products?tag=shop",
            &service.url("products", "&tag=shop"),
        )
        .with(
            "'cloudinary://CLOUD/products'",
            &format!("'{}'", service.url("products", "")),
        )
        .with("/srv", &world.path("srv").display().to_string())
        .follow(world);
    assert_eq!(service.objects("products").len(), 6);

    // From then on.
    fs::remove_file(world.path("products/4711_red/2.jpg")).unwrap();
    make_picture(&world.path("products/4711_blue/new.jpg"), 64, 48);
    let output = rig.run(&["unmount", "products"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let objects = service.objects("products");
    assert_eq!(objects.len(), 6);
    assert!(
        !objects.contains_key("original/4711_red/2.jpg"),
        "{:?}",
        objects.keys()
    );

    let text = fs::read_to_string(&catalogue).unwrap();
    assert!(text.starts_with("name;price;url;"), "{text}");
    assert!(text.contains("\r\n\"Shoe; red\";49,90;"), "{text}");
    let mut rows = csv::ReaderBuilder::new()
        .delimiter(b';')
        .from_path(&catalogue)
        .unwrap();
    let rows: Vec<std::collections::HashMap<String, String>> =
        rows.deserialize().collect::<Result<_, _>>().unwrap();
    let ours: Vec<_> = rows.iter().filter(|row| !row["sku"].is_empty()).collect();
    assert_eq!(ours.len(), 6);
    let blue = ours
        .iter()
        .filter(|row| row["sku"] == "4711" && row["colour"] == "blue");
    assert_eq!(blue.count(), 3);
    for row in ours {
        assert!(
            row["url"].contains(CLOUD) && row["url"].contains("/products/"),
            "{row:?}"
        );
        assert!(
            row["thumbnail_url"].contains("c_fill,w_200,h_300,q_85"),
            "{row:?}"
        );
    }
}
