//! CSV as spreadsheets open it. A text that one would run as a formula gets a `'` in front, as OWASP advises against
//! CSV injection, and control characters are spelled out; numbers stay numbers.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::printable::printable;

/// Whether the command line asked for texts as they are.
static IS_RAW: AtomicBool = AtomicBool::new(false);

/// Has all CSV that is written from now on leave texts as they are, or not.
pub fn leave_texts_raw(is_raw: bool) {
    IS_RAW.store(is_raw, Ordering::Relaxed);
}

/// Writes CSV, each record with as many fields as the first.
#[derive(Debug)]
pub struct Csv<W: Write> {
    csv: csv::Writer<W>,
    is_raw: bool,
}

impl<W: Write> Csv<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { csv: csv::Writer::from_writer(out), is_raw: IS_RAW.load(Ordering::Relaxed) }
    }

    /// Adds a field to the record that is being written.
    ///
    /// # Errors
    /// The writer fails.
    pub fn write_field(&mut self, field: impl AsRef<str>) -> csv::Result<()> {
        let field = field.as_ref();
        if self.is_raw { self.csv.write_field(field) } else { self.csv.write_field(&*harmless(field)) }
    }

    /// Ends the record that is being written.
    ///
    /// # Errors
    /// The writer fails.
    pub fn end_record(&mut self) -> csv::Result<()> {
        self.csv.write_record(None::<&[u8]>)
    }

    /// Writes a record.
    ///
    /// # Errors
    /// The writer fails.
    pub fn write_record(&mut self, fields: impl IntoIterator<Item: AsRef<str>>) -> csv::Result<()> {
        fields.into_iter().try_for_each(|field| self.write_field(field))?;
        self.end_record()
    }

    /// Hands everything to the writer.
    ///
    /// # Errors
    /// The writer fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.csv.flush()
    }
}

/// The field as a spreadsheet shows it and does not run it.
fn harmless(field: &str) -> Cow<'_, str> {
    // Spreadsheets take the wide forms for the others. What stands before a formula may be spelled out.
    let begins_formula =
        |c: char| matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠');
    let text = printable(field);
    if !field.starts_with(begins_formula) || field == "-" || is_number(field) {
        return text;
    }
    format!("'{text}").into()
}

/// A plain decimal number, with a sign.
fn is_number(field: &str) -> bool {
    let only_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let digits = field.strip_prefix(['-', '+']).unwrap_or(field);
    let (digits, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    only_digits(whole)
        && only_digits(part)
        && only_digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_a_spreadsheet_would_run_has_a_quote_in_front_and_a_number_stays_one() {
        for (field, expected) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("@SUM(1)", "'@SUM(1)"),
            ("+1+1", "'+1+1"),
            ("-1+1", "'-1+1"),
            ("\t=1", "'\\t=1"),
            ("\r=1", "'\\r=1"),
            ("＝1", "'＝1"),
            ("--5", "'--5"),
            ("-1e", "'-1e"),
            ("-12.5", "-12.5"),
            ("-1.5e-07", "-1.5e-07"),
            ("+3", "+3"),
            ("-", "-"),
            ("cmpl-1", "cmpl-1"),
            ("a\u{1b}[2J", "a\\u001b[2J"),
            ("", ""),
            ("[{'rid': '=1'}]", "[{'rid': '=1'}]"),
        ] {
            assert_eq!(harmless(field), expected, "{field:?}");
        }
    }

    #[test]
    fn records_are_written_field_by_field_or_at_once() {
        let mut out = Vec::new();
        let mut csv = Csv::new(&mut out);
        csv.write_record(["a", "b,c"]).unwrap();
        csv.write_field("=d").unwrap();
        csv.write_field("-1").unwrap();
        csv.end_record().unwrap();
        csv.flush().unwrap();
        drop(csv);
        assert_eq!(String::from_utf8(out).unwrap(), "a,\"b,c\"\n'=d,-1\n");
    }
}
