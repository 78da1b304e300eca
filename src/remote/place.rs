use url::Url;

/// Options that say where: the service, and what an application makes of files.
const WHERE: [&str; 3] = ["endpoint", "api", "record"];

/// Which place a remote's URL means: what is delivered there is there for every URL of the same
/// place. Without how to get there (region, part sizes, …), and without secrets.
pub fn place(url: &Url) -> String {
    let mut place = url.clone();
    // Both fail for URLs that cannot have them.
    let _ = place.set_username("");
    let _ = place.set_password(None);
    place.set_fragment(None);
    let path = place.path().trim_end_matches('/').to_owned();
    place.set_path(&path);
    let kept = url
        .query_pairs()
        .filter(|(name, _)| WHERE.contains(&name.as_ref()));
    let kept: Vec<_> = kept.collect();
    place.set_query(None);
    for (name, value) in &kept {
        let value = value.trim_end_matches('/');
        place.query_pairs_mut().append_pair(name, value);
    }
    place.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_where_and_not_how() {
        let place = |url: &str| place(&Url::parse(url).unwrap());
        assert_eq!(place("file:///mnt/nas/"), "file:///mnt/nas");
        let one = place("s3://bucket/p?region=eu-1&endpoint=https://s3.example.org/");
        let other = place("s3://bucket/p/?endpoint=https://s3.example.org&acl=private");
        assert_eq!(one, "s3://bucket/p?endpoint=https%3A%2F%2Fs3.example.org");
        assert_eq!(one, other);
        assert_eq!(place("s3://bucket/p?region=x"), "s3://bucket/p");
        let archive = place("rails+https://a.example/?api=archive&lifetime=1h");
        assert_eq!(archive, "rails+https://a.example?api=archive");
        assert!(!place("https://somebody:secret@host/x").contains("secret"));
    }
}
