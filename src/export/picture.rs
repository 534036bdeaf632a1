//! Small pictures as PNG: heat maps and bars, with numbers at their axes. Used by `experts`.

use std::io::{self, Write};

/// Pixels of a cell, of a digit with the gap behind it, and of the margin where numbers stand.
const CELL: usize = 12;
const DIGIT: (usize, usize) = (4, 5);
const MARGIN: usize = 44;

/// Rows and columns of a heat map; what is beyond is not drawn. No model has as many layers or experts.
const MOST: (usize, usize) = (256, 2_048);

/// Five rows of three pixels for each of `0` to `9`, `.` and `-`.
const DIGITS: [[u8; 5]; 12] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 7, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 2, 2, 2],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
    [0, 0, 0, 0, 2],
    [0, 0, 7, 0, 0],
];

/// A white sheet.
struct Sheet {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Sheet {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![255; width * height * 3] }
    }

    fn fill(&mut self, (left, top): (usize, usize), (width, height): (usize, usize), colour: [u8; 3]) {
        for y in top..(top + height).min(self.height) {
            for x in left..(left + width).min(self.width) {
                let at = (y * self.width + x) * 3;
                self.pixels[at..at + 3].copy_from_slice(&colour);
            }
        }
    }

    fn number(&mut self, (left, top): (usize, usize), text: &str) {
        for (position, c) in text.chars().enumerate() {
            let index = match c {
                '.' => 10,
                '-' => 11,
                c => c.to_digit(10).map_or(11, |digit| digit as usize),
            };
            for (row, bits) in DIGITS[index].iter().enumerate() {
                for column in (0..3).filter(|column| bits >> (2 - column) & 1 == 1) {
                    self.fill((left + position * DIGIT.0 + column, top + row), (1, 1), [0; 3]);
                }
            }
        }
    }

    fn write(&self, out: impl Write) -> io::Result<()> {
        let mut encoder = png::Encoder::new(out, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(io::Error::other)?;
        writer.write_image_data(&self.pixels).and_then(|()| writer.finish()).map_err(io::Error::other)
    }
}

/// From dark blue over green to yellow, 0 to 1; told apart also by those who see no red.
fn colour(share: f64) -> [u8; 3] {
    const STOPS: [[f64; 3]; 4] =
        [[68.0, 1.0, 84.0], [49.0, 104.0, 142.0], [53.0, 183.0, 121.0], [253.0, 231.0, 37.0]];
    let at = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let stop = (at as usize).min(STOPS.len() - 2);
    let part = at - stop as f64;
    let mix = |n: usize| (STOPS[stop][n] + (STOPS[stop + 1][n] - STOPS[stop][n]) * part) as u8;
    [mix(0), mix(1), mix(2)]
}

/// A heat map: rows from top to bottom, numbered at the left, columns at the top; a scale with its ends at the right.
///
/// # Errors
/// The writer fails.
pub(super) fn heat_map(rows: &[Vec<f64>], out: impl Write) -> io::Result<()> {
    let rows = &rows[..rows.len().min(MOST.0)];
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default().min(MOST.1);
    let values = || rows.iter().flatten().copied().filter(|value| value.is_finite());
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    let share = |value: f64| if high > low { (value - low) / (high - low) } else { 0.0 };
    let height = (rows.len() * CELL).max(8 * CELL);
    let mut sheet = Sheet::new(MARGIN + columns * CELL + 2 * MARGIN, MARGIN + height + CELL);
    for (row, values) in rows.iter().enumerate() {
        let top = MARGIN + row * CELL;
        sheet.number((MARGIN / 2, top + 3), &row.to_string());
        for (column, value) in values.iter().enumerate().take(columns) {
            sheet.fill((MARGIN + column * CELL, top), (CELL - 1, CELL - 1), colour(share(*value)));
        }
    }
    // As far apart as three digits need.
    for column in (0..columns).step_by(2) {
        sheet.number((MARGIN + column * CELL, MARGIN - 2 * DIGIT.1), &column.to_string());
    }
    let scale = MARGIN + columns * CELL + CELL;
    for step in 0..height {
        sheet.fill((scale, MARGIN + step), (CELL, 1), colour(1.0 - step as f64 / height as f64));
    }
    if high >= low {
        sheet.number((scale + CELL + 4, MARGIN), &format!("{high:.2}"));
        sheet.number((scale + CELL + 4, MARGIN + height - DIGIT.1), &format!("{low:.2}"));
    }
    sheet.write(out)
}

/// Bars of averages with their intervals, numbered from the left.
///
/// # Errors
/// The writer fails.
pub(super) fn bars(values: &[(f64, f64, f64)], out: impl Write) -> io::Result<()> {
    const HEIGHT: usize = 240;
    let highest = values.iter().map(|(_, _, high)| *high).fold(f64::MIN_POSITIVE, f64::max);
    let length = |value: f64| ((value / highest).clamp(0.0, 1.0) * HEIGHT as f64) as usize;
    let mut sheet = Sheet::new(MARGIN + values.len() * 3 * CELL + MARGIN, HEIGHT + 2 * MARGIN);
    for (number, (mean, low, high)) in values.iter().enumerate() {
        let left = MARGIN + number * 3 * CELL;
        sheet.fill((left, MARGIN + HEIGHT - length(*mean)), (2 * CELL, length(*mean)), colour(0.4));
        let (top, bottom) = (MARGIN + HEIGHT - length(*high), MARGIN + HEIGHT - length(*low));
        sheet.fill((left + CELL - 1, top), (2, bottom.saturating_sub(top)), [0; 3]);
        sheet.number((left, MARGIN + HEIGHT + DIGIT.1), &number.to_string());
    }
    sheet.number((2, MARGIN), &format!("{highest:.2}"));
    sheet.number((2, MARGIN + HEIGHT - DIGIT.1), "0");
    sheet.write(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heat_map_is_a_picture_whose_cells_have_the_colours_of_their_values() {
        let mut out = Vec::new();
        heat_map(&[vec![0.0, 1.0], vec![0.5]], &mut out).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&out)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let pixel = |x: usize, y: usize| pixels[(y * info.width as usize + x) * 3..][..3].to_vec();
        let cell = |row: usize, column: usize| pixel(MARGIN + column * CELL + 2, MARGIN + row * CELL + 2);
        assert_eq!([cell(0, 0), cell(0, 1), cell(1, 0)], [0.0, 1.0, 0.5].map(|share| colour(share).to_vec()));
        assert_eq!(cell(1, 1), [255; 3], "there is no value");
        assert!(heat_map(&[], &mut out).is_ok() && bars(&[], &mut out).is_ok());
        assert!(bars(&[(2.0, 1.0, 3.0), (0.0, 0.0, 0.0)], &mut out).is_ok());
    }

    #[test]
    fn a_file_can_not_ask_for_a_picture_that_no_memory_holds() {
        let size = |rows: &[Vec<f64>]| {
            let mut out = Vec::new();
            heat_map(rows, &mut out).unwrap();
            let info = png::Decoder::new(std::io::Cursor::new(&out)).read_info().unwrap().info().size();
            (info.0 as usize, info.1 as usize)
        };
        let (wide, high) = (size(&[vec![1.0; MOST.1 + 9]]), size(&vec![vec![1.0]; MOST.0 + 9]));
        assert_eq!((wide.0, high.1), (3 * MARGIN + MOST.1 * CELL, MARGIN + CELL + MOST.0 * CELL));
    }
}
