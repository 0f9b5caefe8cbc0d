//! What happens to files: cut off, bits flipped, lengths blown up, parts lost, doubled or swapped.

use rand::Rng;
use rand::seq::IndexedRandom;

/// What may stand where a number was.
const NUMBERS: [&str; 14] = [
    "-1",
    "0",
    "1e999",
    "-1e-999",
    "NaN",
    "Infinity",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "1.5",
    "null",
    "\"3\"",
    "[]",
    "{}",
];

/// A changed copy and what was done to it. `text`: changes that only text can suffer are among
/// them.
pub fn mutated(contents: &[u8], text: bool, rng: &mut impl Rng) -> (&'static str, Vec<u8>) {
    let mut changed = contents.to_vec();
    let length = changed.len();
    // Half of the damage goes to the first and the last bytes, where headers and directories are.
    let at = match rng.random_range(0..4) {
        0 => rng.random_range(0..length.min(128)),
        1 => length - 1 - rng.random_range(0..length.min(128)),
        _ => rng.random_range(0..length),
    };
    let span = rng.random_range(1..=16.min(length - at));
    let what = match rng.random_range(0..if text { 10 } else { 8 }) {
        0 => {
            changed.truncate(at);
            "cut off"
        }
        1 => {
            changed[at] ^= 1 << rng.random_range(0..8);
            "one bit"
        }
        2 => {
            for _ in 0..rng.random_range(2..32) {
                changed[rng.random_range(0..length)] ^= 1 << rng.random_range(0..8);
            }
            "many bits"
        }
        3 => {
            let fill = *[0x00, 0xff, 0x7f, 0x80].choose(rng).unwrap();
            changed[at..at + span].fill(fill);
            "a huge or empty length"
        }
        4 => {
            changed.drain(at..at + span);
            "a part lost"
        }
        5 => {
            let copy = changed[at..at + span].to_vec();
            changed.splice(at..at, copy);
            "a part twice"
        }
        6 => {
            let junk: Vec<u8> = (0..span).map(|_| rng.random()).collect();
            changed.splice(at..at, junk);
            "junk"
        }
        7 => {
            let other = rng.random_range(0..length);
            changed.swap(at, other);
            let tail = changed.split_off(other);
            changed.extend(tail.into_iter().rev());
            "turned round"
        }
        8 => {
            number(&mut changed, at, rng);
            "a number"
        }
        _ => {
            let token = [
                "[", "{", "}", "]", ":", ",", "\"", "&a ", "*a", "${seed}", "\u{0}", "\u{feff}",
                "\n---\n", "!!x ",
            ];
            changed.splice(at..at, token.choose(rng).unwrap().bytes());
            "a token"
        }
    };
    (what, changed)
}

/// Replaces the first run of digits from `at` on.
fn number(contents: &mut Vec<u8>, at: usize, rng: &mut impl Rng) {
    let Some(start) = contents[at..]
        .iter()
        .position(u8::is_ascii_digit)
        .map(|start| at + start)
    else {
        return;
    };
    let end = contents[start..]
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .map_or(contents.len(), |end| start + end);
    contents.splice(start..end, NUMBERS.choose(rng).unwrap().bytes());
}

/// Whole contents that no writer ever wrote.
pub fn hostile(text: bool) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), Vec::new()),
        ("one byte".into(), vec![0]),
        ("zeros".into(), vec![0; 100_000]),
        ("ones".into(), vec![0xff; 100_000]),
        ("not UTF-8".into(), b"a: \xc3\x28".repeat(1000)),
    ];
    if text {
        for (open, close) in [
            ("[", "]"),
            ("{\"a\":", "}"),
            ("{a: ", "}"),
            ("- ", ""),
            ("a:\n ", ""),
            ("${", "}"),
            ("(", ")"),
            ("'", ""),
        ] {
            let deep = format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
            files.push((format!("50,000 times `{open}`"), deep.into_bytes()));
        }
        let indented: String = (0..2_000)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect();
        files.push(("2,000 levels".into(), indented.into_bytes()));
        let mut laughs = String::from("a0: &a0 [x, x]\n");
        for level in 1..40 {
            laughs += &format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1);
        }
        files.push(("a billion laughs".into(), laughs.into_bytes()));
        files.push(("a long line".into(), vec![b'a'; 5_000_000]));
        files.push((
            "many keys".into(),
            (0..200_000)
                .map(|key| format!("k{key}: 1\n"))
                .collect::<String>()
                .into_bytes(),
        ));
    }
    files
}
