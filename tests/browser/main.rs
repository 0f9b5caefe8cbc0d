//! Looks at the status page in Chromium, without script: at the widths of a phone and of a desk, in
//! light and dark. `make test-browser` installs Chromium where it is missing.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the tests of the network use the rest")]
#[path = "../network/support.rs"]
mod support;

use image::RgbImage;
use std::path::Path;
use std::process::Command;
use support::{Folder, Host};

const LONG: &str = "Hospital of the Sisters of Mercy at the Lake, Radiology";

/// A server that has seen everything: a client that is accepted, one that is refused, one that is
/// in the middle, one that never came.
fn busy() -> (Folder, Host, String) {
    let folder = Folder::with(&["--clients", "4", "--name", "Four hospitals"]);
    let tokens: Vec<String> = ["St. Mary", LONG, "<i>West</i>", "East"]
        .iter()
        .map(|name| folder.client(name))
        .collect();
    let admin = folder.admin();
    let host = folder.serve(&[]);
    for token in &tokens[..3] {
        host.enrol(token, 100);
    }
    host.upload(&tokens[0], &support::teacher(1));
    host.upload(&tokens[1], b"PK\x03\x04");
    (folder, host, admin)
}

/// Runs Chromium, which ends by itself.
fn chromium(profile: &Path, width: u32, is_dark: bool, arguments: &[String]) -> String {
    let colours = if is_dark { 0 } else { 1 };
    let browser = std::env::var("CHROMIUM").unwrap_or("chromium".into());
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={width},2600"))
        .arg(format!("--blink-settings=preferredColorScheme={colours}"))
        .args(arguments)
        .output()
        .expect("Chromium: `make test-browser` installs it");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The page as it is painted.
fn painted(host: &Host, admin: &str, width: u32, is_dark: bool) -> RgbImage {
    let place = tempfile::tempdir().unwrap();
    let picture = place.path().join("page.png");
    let arguments = [
        "--blink-settings=scriptEnabled=false".to_owned(),
        format!("--screenshot={}", picture.display()),
        format!("http://host:{admin}@{}/", host.address),
    ];
    chromium(place.path(), width, is_dark, &arguments);
    let image = image::open(&picture).unwrap().to_rgb8();
    assert_eq!(image.width(), width);
    image
}

fn brightness(pixel: &image::Rgb<u8>) -> f64 {
    pixel.0.iter().map(|&value| f64::from(value)).sum::<f64>() / (3.0 * 255.0)
}

#[test]
fn at_two_widths_in_light_and_dark() {
    let (_folder, host, admin) = busy();
    for width in [400, 1300] {
        for is_dark in [false, true] {
            let image = painted(&host, &admin, width, is_dark);
            let ground = *image.get_pixel(0, 0);
            let is_of_theme = (brightness(&ground) < 0.5) == is_dark;
            assert!(is_of_theme, "{width}, dark {is_dark}: {ground:?}");
            // Text in strong contrast to the ground, and nothing in the margins: a line that were
            // cut off would reach to the edge.
            let apart = |pixel: &image::Rgb<u8>| (brightness(pixel) - brightness(&ground)).abs();
            let strong = image.pixels().filter(|pixel| apart(pixel) > 0.6).count();
            assert!(
                strong > 3000,
                "{width}, dark {is_dark}: {strong} pixels of text"
            );
            for x in [0, 1, width - 2, width - 1] {
                let column = (0..image.height()).map(|y| image.get_pixel(x, y));
                let marked = column.filter(|pixel| apart(pixel) > 0.1).count();
                assert_eq!(
                    marked, 0,
                    "{width}, dark {is_dark}: something at column {x}"
                );
            }
        }
    }
}

/// Chromium lays out the page that the server sent, and a script that is added to this copy says
/// what is wider than the window and what is not seen.
#[test]
fn nothing_is_cut_off() {
    let (_folder, host, admin) = busy();
    let page = String::from_utf8(host.get(&admin, "/").body).unwrap();
    let script = "<script>
        const width = document.documentElement.clientWidth;
        const beyond = [...document.querySelectorAll('td, th, p, h1, h2, figure, img')]
            .filter(each => each.getBoundingClientRect().right > width + 1)
            .map(each => each.textContent);
        document.title = JSON.stringify({width, beyond,
            scroll: document.documentElement.scrollWidth,
            text: document.body.innerText.includes('St. Mary')});
        </script></body>";
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("page.html");
    std::fs::write(&copy, page.replace("</body>", script)).unwrap();
    for width in [400, 1300] {
        let arguments = [
            "--dump-dom".to_owned(),
            format!("file://{}", copy.display()),
        ];
        let laid_out = chromium(place.path(), width, false, &arguments);
        let title = laid_out.split("<title>").nth(1).unwrap();
        let title = title.split("</title>").next().unwrap();
        let found: serde_json::Value = serde_json::from_str(title).unwrap();
        assert_eq!(found["width"], width, "{title}");
        assert_eq!(found["scroll"], width, "{title}");
        assert_eq!(found["beyond"], serde_json::json!([]), "{title}");
        assert_eq!(found["text"], true, "{title}");
    }
}
