//! The OpenAPI document and the router name the same routes.

use fed_distill::network::routes::ROUTES;
use std::collections::BTreeSet;

#[test]
fn routes() {
    let path = super::common::machine::checkout().join("docs/openapi.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut place, mut documented) = ("", BTreeSet::new());
    for line in text.split_once("\npaths:\n").unwrap().1.lines() {
        let key = line.trim_start();
        match line.len() - key.len() {
            2 => place = key.trim_end_matches(':'),
            4 => {
                documented.insert((key.trim_end_matches(':').to_uppercase(), place.to_owned()));
            }
            _ => {}
        }
    }
    let routes = ROUTES
        .iter()
        .map(|route| (route.method.to_owned(), route.path.to_owned()));
    assert_eq!(documented, routes.collect());
}
