//! Looks at the status page in Chromium: at the widths of a phone and of a desk, in light and dark.
//! It has no script, and its policy allows none. `make test-browser` installs Chromium where it is
//! missing.

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

/// Runs Chromium, which ends by itself. Its window is at least 500 pixels wide: narrower pages are
/// shown in a frame.
fn chromium(folder: &Path, width: u32, settings: &str, arguments: &[String]) -> String {
    let browser = std::env::var("CHROMIUM").unwrap_or("chromium".into());
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
    ];
    let output = Command::new(browser)
        .args(flags)
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .arg(format!("--window-size={},2600", width.max(500)))
        .arg(format!("--blink-settings={settings}"))
        .args(arguments)
        .output()
        .expect("Chromium: `make test-browser` installs it");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The page as it is painted at a width: by the server itself, or where the window would be too
/// narrow, as a copy in a frame.
fn painted(host: &Host, admin: &str, width: u32, is_dark: bool) -> RgbImage {
    let place = tempfile::tempdir().unwrap();
    let picture = place.path().join("page.png");
    let page = match width < 500 {
        true => framed(place.path(), width, &page(host, admin)),
        false => format!("http://host:{admin}@{}/", host.address),
    };
    let colours = if is_dark { 0 } else { 1 };
    let settings = format!("preferredColorScheme={colours}");
    let arguments = [format!("--screenshot={}", picture.display()), page];
    chromium(place.path(), width, &settings, &arguments);
    let mut image = image::open(&picture).unwrap().to_rgb8();
    image::imageops::crop(&mut image, 0, 0, width, 2600).to_image()
}

fn page(host: &Host, admin: &str) -> String {
    String::from_utf8(host.get(admin, "/").body).unwrap()
}

/// Writes the page, and one that shows it in a frame of a width; returns the address of that.
fn framed(folder: &Path, width: u32, page: &str) -> String {
    std::fs::write(folder.join("page.html"), page).unwrap();
    let frame = format!(
        "<!DOCTYPE html><meta name=\"color-scheme\" content=\"light dark\"/>\
         <body style=\"margin:0\"><iframe src=\"page.html\" \
         style=\"border:0;display:block;width:{width}px;height:2600px\"></iframe>\
         <script>addEventListener('message', event => document.title = event.data)</script></body>"
    );
    let path = folder.join("frame.html");
    std::fs::write(&path, frame).unwrap();
    format!("file://{}", path.display())
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
    let page = page(&host, &admin);
    let script = "<script>
        const width = document.documentElement.clientWidth;
        const beyond = [...document.querySelectorAll('td, th, p, h1, h2, figure, img')]
            .filter(each => each.getBoundingClientRect().right > width + 1)
            .map(each => each.textContent);
        parent.postMessage(JSON.stringify({width, beyond,
            scroll: document.documentElement.scrollWidth,
            text: document.body.innerText.includes('St. Mary')}), '*');
        </script></body>";
    let place = tempfile::tempdir().unwrap();
    for width in [400, 1300] {
        let frame = framed(place.path(), width, &page.replace("</body>", script));
        let arguments = ["--dump-dom".to_owned(), frame];
        let laid_out = chromium(place.path(), width, "preferredColorScheme=1", &arguments);
        let title = laid_out.split("<title>").nth(1).unwrap();
        let title = title.split("</title>").next().unwrap();
        let found: serde_json::Value = serde_json::from_str(title).unwrap();
        assert_eq!(found["width"], width, "{title}");
        assert_eq!(found["scroll"], width, "{title}");
        assert_eq!(found["beyond"], serde_json::json!([]), "{title}");
        assert_eq!(found["text"], true, "{title}");
    }
}
