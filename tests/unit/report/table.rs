//! Text tables: alignment, blanks, ragged rows.

use fed_distill::report::Table;

fn cells(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

#[test]
fn numbers_stand_right_and_words_left() {
    let mut table = Table::new(&["node", "images", "upload"]);
    table.row(cells(&["teacher0", "1,234", "44.7 MiB"]));
    table.row(cells(&["teacher12", "9", "-"]));
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "node        images     upload");
    assert!(lines[1].chars().all(|letter| letter == '─'));
    assert_eq!(lines[2], "teacher0     1,234   44.7 MiB");
    assert_eq!(lines[3], "teacher12        9          -");
    assert_eq!(lines.len(), 4);
}

#[test]
fn a_column_with_one_word_stays_left() {
    let mut table = Table::new(&["value"]);
    table.row(cells(&["1"])).row(cells(&["twelve"]));
    assert_eq!(table.to_string().lines().nth(2), Some("1"));
}

#[test]
fn every_way_to_write_a_number_counts() {
    let numbers = [
        "-0.5",
        "1e-3",
        "91.2%",
        "91.2 %",
        "0.91 ± 0.02",
        "3 / 10",
        "12 s",
        "−4",
        "1_000",
    ];
    let is_right = |cell: &str| {
        let mut table = Table::new(&["a wide header"]);
        table.row(cells(&[cell]));
        table
            .to_string()
            .lines()
            .nth(2)
            .is_some_and(|line| line.starts_with(' '))
    };
    for number in numbers {
        assert!(is_right(number), "{number}");
    }
    for word in ["resnet18", "inf2", "10 apples", "-", ""] {
        assert!(!is_right(word), "{word}");
    }
}

#[test]
fn short_rows_and_no_rows_are_fine() {
    let mut table = Table::new(&["a", "b"]);
    assert_eq!(table.to_string().lines().next(), Some("a   b"));
    table.row(cells(&["x"])).row(vec![]);
    assert_eq!(table.to_string().lines().nth(2), Some("x"));
    assert!(!table.to_string().contains('\u{1b}'), "no colours");
}
