//! What is particular to CSV files: they are people's, and stay as they write them.

use super::*;

async fn fixture(content: impl AsRef<[u8]>) -> Csv {
    let fixture = Csv::new().await.unwrap();
    std::fs::write(fixture.path(), content).unwrap();
    fixture
}

fn open(fixture: &Csv, pattern: Option<&str>) -> Arc<dyn RowSink> {
    let options = Options {
        folder_pattern: pattern.map(|pattern| FolderPattern::parse(pattern).unwrap()),
        ..Options::default()
    };
    rows::open(&[format!("{}?per=picture", fixture.url())], &options).unwrap()
}

fn bytes(fixture: &Csv) -> Vec<u8> {
    std::fs::read(fixture.path()).unwrap()
}

fn text(fixture: &Csv) -> String {
    String::from_utf8(bytes(fixture)).unwrap()
}

const PATTERN: &str = "(?P<sku>[^_]+)_(?P<colour>.+)";

#[tokio::test]
async fn a_shops_own_rows_and_columns_stay_byte_for_byte() {
    let own = "SKU;Name;colour;Preis\r\n\
               A1;\"Hose; lang\";rot;\"12,50\"\r\n\
               \"A2\";Hemd;  blau ;9\r\n\
               \r\n\
               A3;\"mehr\r\nzeilig \"\"x\"\"\";;\r\n";
    let fixture = fixture(own).await;
    let sink = open(&fixture, Some(PATTERN));
    sink.upsert(&[row("B7_grün", 1)]).await.unwrap();
    let text = text(&fixture);
    let mut there = text.split("\r\n");
    let header = there.next().unwrap();
    assert!(
        header.starts_with("SKU;Name;colour;Preis;mount_id;folder;file;"),
        "{header}"
    );
    let added = ";".repeat(header.split(';').count() - 4);
    let widened = format!(
        "A1;\"Hose; lang\";rot;\"12,50\"{added}\r\n\
         \"A2\";Hemd;  blau ;9{added}\r\n\
         \r\n\
         A3;\"mehr\r\nzeilig \"\"x\"\"\";;{added}\r\n"
    );
    let after_header = text.split_once("\r\n").unwrap().1;
    assert!(after_header.starts_with(&widened), "{after_header}");
    let new = &after_header[widened.len()..];
    assert!(
        new.starts_with("B7;;grün;;m1;B7_grün;a.jpg;B7_grün;rig-1;pass;https://"),
        "{new}"
    );
    assert!(
        new.ends_with("\r\n") && new.matches("\r\n").count() == 1,
        "{new}"
    );
}

#[tokio::test]
async fn a_persons_cells_stay_in_a_row_that_changes() {
    let fixture = fixture("").await;
    let sink = open(&fixture, Some(PATTERN));
    sink.upsert(&[row("A1_red", 1), row("A2_red", 1)])
        .await
        .unwrap();
    let with_notes: String = text(&fixture)
        .split_terminator("\r\n")
        .enumerate()
        .map(|(n, line)| match n {
            0 => format!("note,{line}\r\n"),
            n => format!("\"my, {n}\",{line}\r\n"),
        })
        .collect();
    std::fs::write(fixture.path(), &with_notes).unwrap();
    let mut changed = row("A1_red", 2);
    changed.pictures[0].width = Some(7);
    sink.upsert(&[changed]).await.unwrap();
    let records = fixture.records();
    assert_eq!(
        (
            &*records[0]["note"],
            &*records[0]["width"],
            &*records[0]["version"]
        ),
        ("my, 1", "7", "2")
    );
    let (untouched, before) = (text(&fixture), with_notes);
    assert_eq!(untouched.lines().nth(2), before.lines().nth(2));
}

#[tokio::test]
async fn a_row_that_a_person_prepared_is_filled() {
    let fixture = fixture("folder,file,price\nA1_red,a.jpg,5\nA1_red,other.jpg,6\n").await;
    open(&fixture, None)
        .upsert(&[row("A1_red", 1)])
        .await
        .unwrap();
    let records = fixture.records();
    assert_eq!(records.len(), 2);
    assert_eq!(
        (
            &*records[0]["price"],
            &*records[0]["mount_id"],
            &*records[0]["bytes"]
        ),
        ("5", "m1", "1000")
    );
    assert_eq!((&*records[1]["price"], &*records[1]["mount_id"]), ("6", ""));
}

#[tokio::test]
async fn a_name_that_does_not_match_is_reported_and_not_dropped() {
    let fixture = fixture("").await;
    let rows = [row("A1_red", 1), row("oddly named", 1)];
    open(&fixture, Some(PATTERN)).upsert(&rows).await.unwrap();
    let records = fixture.records();
    assert_eq!(
        (&*records[0]["sku"], &*records[0]["folder_error"]),
        ("A1", "")
    );
    assert_eq!(
        (&*records[1]["sku"], &*records[1]["url"]),
        ("", &*rows[1].pictures[0].url)
    );
    assert!(records[1]["folder_error"].contains("'oddly named' does not match"));
}

#[tokio::test]
async fn encoding_delimiter_quoting_and_line_ends_are_the_files() {
    let utf16: Vec<u8> = "\u{feff}sku\tgröße\n1\t2\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (content, after) in [
        (b"sku;gr\xf6\xdfe\n1;2\n".to_vec(), &b";\"\";\xfcber\n"[..]),
        (
            "\u{feff}\"sku\",\"größe\"\r\n\"1\",\"2\"".into(),
            "\"über\"\r\n".as_bytes(),
        ),
        (utf16, b"r\0\n\0"),
        (b"sku|x\r1|2\r".to_vec(), "über\r".as_bytes()),
    ] {
        let fixture = fixture(&content).await;
        let sink = open(&fixture, Some("(?P<artikel>.*)"));
        sink.upsert(&[row("über", 1)]).await.unwrap();
        let once = bytes(&fixture);
        let header_end = content.windows(4).position(|w| w == &content[..4]).unwrap();
        assert_eq!(once[header_end..4], content[header_end..4]);
        let tail = after.strip_prefix(b";\"\"".as_slice()).unwrap_or(after);
        let needle = &tail[..tail.len().min(4)];
        assert!(
            once.windows(needle.len()).any(|w| w == needle),
            "{}",
            String::from_utf8_lossy(&once)
        );
        sink.upsert(&[row("über", 1)]).await.unwrap();
        assert_eq!(bytes(&fixture), once, "the second time changes nothing");
    }
}

#[tokio::test]
async fn a_character_that_the_file_cannot_have_is_named_and_the_file_left() {
    let own = b"sku;gr\xf6\xdfe\n1;2\n";
    let fixture = fixture(own).await;
    let sink = open(&fixture, None);
    sink.probe().await.unwrap();
    let before = bytes(&fixture);
    let error = sink.upsert(&[row("日本", 1)]).await.unwrap_err();
    assert!(
        error.permanent && error.message.contains("no '日'; save it as UTF-8"),
        "{error}"
    );
    assert_eq!(bytes(&fixture), before);
    sink.upsert(&[row("Köln", 1)]).await.unwrap();
}

#[tokio::test]
async fn a_malformed_file_is_left_alone_and_rows_wait() {
    for (content, why) in [
        (
            "a,b\n1,2\n3\n",
            "line 3 has 1 fields where the first line has 2",
        ),
        ("a,b\n1,2,3\n", "line 2 has 3 fields"),
        ("a,b\n1,\"2\n3,4\n", "never closed"),
        ("a;b\r\n\r\n\"1\r\n\";2\r\n3\r\n", "line 5 has 1 fields"),
        ("PK\u{3}\u{4}\0\0", "no CSV file"),
    ] {
        let fixture = fixture(content).await;
        let sink = open(&fixture, None);
        let error = sink.probe().await.unwrap_err();
        assert!(error.permanent && error.message.contains(why), "{error}");
        let error = sink.upsert(&[row("a", 1)]).await.unwrap_err();
        assert!(!error.permanent && error.message.contains(why), "{error}");
        assert_eq!(text(&fixture), content);
        std::fs::write(fixture.path(), "a,b\n1,2\n").unwrap();
        sink.upsert(&[row("a", 1)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_quotation_mark_within_a_field_is_taken_as_it_stands() {
    let fixture = fixture("a,b\n19\" monitor,2\n3,4\" pipe\n").await;
    open(&fixture, None).upsert(&[row("a", 1)]).await.unwrap();
    let text = text(&fixture);
    assert!(
        text.contains("\n19\" monitor,2,") && text.contains("\n3,4\" pipe,"),
        "{text}"
    );
}

#[tokio::test]
async fn a_link_and_permissions_stay() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Csv::new().await.unwrap();
    let real = fixture.path().with_file_name("real.csv");
    std::fs::write(&real, "a\n1\n").unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("real.csv", fixture.path()).unwrap();
    open(&fixture, None).upsert(&[row("a", 1)]).await.unwrap();
    assert!(fixture.path().is_symlink());
    assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    let mut files: Vec<_> = std::fs::read_dir(real.parent().unwrap())
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    files.sort();
    assert_eq!(files, ["products.csv", "real.csv"]);
}

#[tokio::test]
async fn readers_never_see_half_a_file() {
    let fixture = fixture("").await;
    let sink = open(&fixture, None);
    let rows: Vec<_> = (0..2000).map(|n| row(&format!("f{n}"), 1)).collect();
    sink.upsert(&rows).await.unwrap();
    let path = fixture.path();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = done.clone();
    let reader = std::thread::spawn(move || {
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            assert!(
                ::csv::Reader::from_path(&path)
                    .unwrap()
                    .records()
                    .filter(Result::is_ok)
                    .count()
                    >= 2000
            );
        }
    });
    for n in 0..20 {
        sink.upsert(&[row(&format!("more{n}"), 1)]).await.unwrap();
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    reader.join().unwrap();
}

#[tokio::test]
async fn many_rows_at_once_are_one_rewrite() {
    use std::os::unix::fs::MetadataExt;
    let fixture = fixture("").await;
    let sink = open(&fixture, None);
    sink.probe().await.unwrap();
    let mut inodes = std::collections::BTreeSet::new();
    let sink = &sink;
    let writes = (0..1000).map(|n| async move { sink.upsert(&[row(&format!("f{n}"), 1)]).await });
    let watch = async {
        loop {
            inodes.insert(fixture.path().metadata().unwrap().ino());
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let all = futures_util::future::join_all(writes);
    tokio::select! {
        results = all => assert!(results.iter().all(Result::is_ok)),
        () = watch => {}
    }
    assert_eq!(fixture.records().len(), 1000);
    assert!(inodes.len() < 20, "{} rewrites", inodes.len());
}
