//! What is particular to JSON lines.

use super::*;

async fn fixture() -> JsonLines {
    JsonLines::new().await.unwrap()
}

#[tokio::test]
async fn every_version_stays_in_the_file() {
    let fixture = fixture().await;
    let sink = ready(&fixture).await;
    sink.upsert(&[row("a", 1)]).await.unwrap();
    sink.upsert(&[row("a", 2)]).await.unwrap();
    let versions: Vec<_> = fixture
        .lines()
        .iter()
        .map(|line| line["version"].clone())
        .collect();
    assert_eq!(versions, [json!(1), json!(2)]);
}

#[tokio::test]
async fn half_a_line_that_a_power_cut_left_is_cut_off() {
    let fixture = fixture().await;
    let sink = ready(&fixture).await;
    sink.upsert(&[row("a", 1)]).await.unwrap();
    let whole = std::fs::read(fixture.path()).unwrap();
    for cut in [1, 10, whole.len() - 2] {
        std::fs::write(fixture.path(), [&whole[..], &whole[..cut]].concat()).unwrap();
        sink.upsert(&[row("b", 1)]).await.unwrap();
        assert_eq!(versions(&fixture).await, [("a".into(), 1), ("b".into(), 1)]);
        assert_eq!(fixture.lines().len(), 2);
    }
}

#[tokio::test]
async fn a_line_without_its_end_is_kept() {
    let fixture = fixture().await;
    std::fs::write(fixture.path(), r#"{"mine":1}"#).unwrap();
    sink(&fixture).upsert(&[row("a", 1)]).await.unwrap();
    assert_eq!(fixture.lines()[0], json!({"mine": 1}));
    assert_eq!(fixture.lines()[1]["folder"], "a");
}

#[tokio::test]
async fn a_rotated_file_is_begun_anew() {
    let fixture = fixture().await;
    let sink = ready(&fixture).await;
    sink.upsert(&[row("a", 1)]).await.unwrap();
    std::fs::rename(fixture.path(), fixture.path().with_extension("1")).unwrap();
    sink.upsert(&[row("b", 1)]).await.unwrap();
    assert_eq!(versions(&fixture).await, [("b".into(), 1)]);
}
