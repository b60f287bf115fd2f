//! Samples in order of time, however many there are: what doesn't fit into memory is sorted piece by piece into temporary files, and the
//! pieces are merged when they are read. Files of samples come series by series, and judging needs all series of a moment together.
//!
//! Bounded: [`HELD`] samples in memory (48 MiB), and on disk 24 bytes a sample, twice that while pieces are merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};

/// One sample of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it was taken, in milliseconds since 1970.
    pub at: i64,
    /// The number of the series.
    pub series: u32,
    /// Its value.
    pub value: f64,
}

/// So many are held in memory: 48 MiB.
pub const HELD: usize = 2 * 1024 * 1024;

/// So many pieces are merged at once; more are made into one first. Each has an open file and a buffer.
const MERGED: usize = 32;

/// The buffer of a piece that is written or read.
const BUFFER: usize = 64 * 1024;

/// What a sample takes on disk.
const WIDTH: usize = 24;

/// Samples that are being collected.
#[derive(Debug)]
pub struct Runs {
    most: usize,
    held: Vec<Sample>,
    /// Pieces of the same size are in one list; those of the next were made of [`MERGED`] of these.
    spilled: Vec<Vec<Run>>,
}

/// A sorted piece in a file without a name, which is gone when it is closed.
#[derive(Debug)]
struct Run {
    file: File,
    /// Of all pieces, which came first: samples of the same time stay in the order in which they came.
    order: u64,
    samples: u64,
}

impl Default for Runs {
    fn default() -> Self {
        Self::holding(HELD)
    }
}

impl Runs {
    /// Holds so many samples in memory.
    #[must_use]
    pub fn holding(most: usize) -> Self {
        Self { most: most.max(1), held: Vec::new(), spilled: Vec::new() }
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// When a temporary file can't be made or written.
    pub fn push(&mut self, sample: Sample) -> io::Result<()> {
        if self.held.len() >= self.most {
            self.spill()?;
        }
        self.held.push(sample);
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.held.len() as u64 + self.spilled.iter().flatten().map(|run| run.samples).sum::<u64>()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut held = std::mem::take(&mut self.held);
        sort(&mut held);
        let order = self.spilled.iter().flatten().map(|run| run.order).max().map_or(0, |newest| newest + 1);
        let run = Run::write(order, held.iter().copied().map(Ok))?;
        held.clear();
        self.held = held;
        self.add(0, run)
    }

    fn add(&mut self, level: usize, run: Run) -> io::Result<()> {
        if self.spilled.len() <= level {
            self.spilled.resize_with(level + 1, Vec::new);
        }
        self.spilled[level].push(run);
        if self.spilled[level].len() < MERGED {
            return Ok(());
        }
        let full = std::mem::take(&mut self.spilled[level]);
        let order = full.iter().map(|run| run.order).min().unwrap_or(0);
        let merged = Run::write(order, Merge::of(&full)?)?;
        drop(full);
        self.add(level + 1, merged)
    }

    /// All samples in order of time; those of the same time in the order in which they came. May be asked for again.
    ///
    /// # Errors
    /// When a temporary file can't be read.
    pub fn in_order(&mut self) -> io::Result<Merge<'_>> {
        sort(&mut self.held);
        let runs: Vec<&Run> = self.spilled.iter().flatten().collect();
        Merge::of_all(&runs, self.held.iter().copied())
    }
}

fn sort(samples: &mut [Sample]) {
    if !samples.is_sorted_by_key(|sample| sample.at) {
        samples.sort_by_key(|sample| sample.at);
    }
}

impl Run {
    fn write(order: u64, samples: impl Iterator<Item = io::Result<Sample>>) -> io::Result<Self> {
        let mut writer = BufWriter::with_capacity(BUFFER, tempfile::tempfile()?);
        let mut number = 0;
        for sample in samples {
            let Sample { at, series, value } = sample?;
            let mut bytes = [0; WIDTH];
            bytes[..8].copy_from_slice(&at.to_le_bytes());
            bytes[8..16].copy_from_slice(&value.to_le_bytes());
            bytes[16..20].copy_from_slice(&series.to_le_bytes());
            writer.write_all(&bytes)?;
            number += 1;
        }
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Self { file, order, samples: number })
    }

    fn read(&self) -> io::Result<Stored> {
        // One after the other: the pieces share their files' places with whoever reads them again later.
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Stored { reader: BufReader::with_capacity(BUFFER, file), left: self.samples })
    }
}

/// A piece that is being read.
#[derive(Debug)]
struct Stored {
    reader: BufReader<File>,
    left: u64,
}

impl Stored {
    fn next(&mut self) -> io::Result<Option<Sample>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut bytes = [0; WIDTH];
        self.reader.read_exact(&mut bytes)?;
        let eight = |from: usize| std::array::from_fn(|index| bytes[from + index]);
        let series = std::array::from_fn(|index| bytes[16 + index]);
        Ok(Some(Sample { at: i64::from_le_bytes(eight(0)), value: f64::from_le_bytes(eight(8)), series: u32::from_le_bytes(series) }))
    }
}

/// Pieces that are being merged.
#[derive(Debug)]
pub struct Merge<'a> {
    stored: Vec<Stored>,
    held: std::iter::Copied<std::slice::Iter<'a, Sample>>,
    /// The next sample of each piece, unless all of it is in memory: its time, the piece's place, and the sample.
    next: BinaryHeap<Reverse<Next>>,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    at: i64,
    place: usize,
    sample: Sample,
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.place) == (other.at, other.place)
    }
}

impl Eq for Next {}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.place).cmp(&(other.at, other.place))
    }
}

impl<'a> Merge<'a> {
    fn of(runs: &[Run]) -> io::Result<Merge<'static>> {
        Merge::of_all(&runs.iter().collect::<Vec<_>>(), [].iter().copied())
    }

    fn of_all(runs: &[&Run], held: std::iter::Copied<std::slice::Iter<'a, Sample>>) -> io::Result<Self> {
        let mut runs = runs.to_vec();
        runs.sort_by_key(|run| run.order);
        let stored = runs.iter().map(|run| run.read()).collect::<io::Result<Vec<_>>>()?;
        let mut merge = Self { stored, held, next: BinaryHeap::new() };
        if !merge.stored.is_empty() {
            for place in 0..=merge.stored.len() {
                merge.refill(place)?;
            }
        }
        Ok(merge)
    }

    /// What is in memory came last, so it has the last place.
    fn refill(&mut self, place: usize) -> io::Result<()> {
        let sample = match self.stored.get_mut(place) {
            Some(stored) => stored.next()?,
            None => self.held.next(),
        };
        self.next.extend(sample.map(|sample| Reverse(Next { at: sample.at, place, sample })));
        Ok(())
    }
}

impl Iterator for Merge<'_> {
    type Item = io::Result<Sample>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stored.is_empty() {
            // All of it is in memory, where it is sorted.
            return self.held.next().map(Ok);
        }
        let mut first = self.next.peek_mut()?;
        let Reverse(Next { place, sample, .. }) = *first;
        let following = match self.stored.get_mut(place) {
            Some(stored) => stored.next(),
            None => Ok(self.held.next()),
        };
        // The next one of the same piece is mostly the first of all again, and then nothing moves.
        match following {
            Ok(Some(sample)) => *first = Reverse(Next { at: sample.at, place, sample }),
            Ok(None) => {
                PeekMut::pop(first);
            }
            Err(error) => {
                PeekMut::pop(first);
                return Some(Err(error));
            }
        }
        Some(Ok(sample))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: i64, series: u32) -> Sample {
        Sample { at, series, value: f64::from(series) / 3.0 }
    }

    fn in_order(most: usize, samples: &[Sample]) -> Vec<Sample> {
        let mut runs = Runs::holding(most);
        for sample in samples {
            runs.push(*sample).expect("there is a place for temporary files");
        }
        assert_eq!(runs.len(), samples.len() as u64);
        let once: Vec<_> = runs.in_order().expect("can be read").collect::<io::Result<_>>().expect("can be read");
        let again: Vec<_> = runs.in_order().expect("can be read").collect::<io::Result<_>>().expect("can be read");
        assert_eq!(once, again);
        once
    }

    #[test]
    fn samples_come_back_in_order_of_time_wherever_they_were_kept() {
        // Series by series, as files of samples are.
        let samples: Vec<Sample> = (0..7).flat_map(|series| (0..500).map(move |at| sample(at, series))).collect();
        let mut expected = samples.clone();
        expected.sort_by_key(|sample| sample.at);
        for most in [1, 3, 100, 10_000] {
            assert_eq!(in_order(most, &samples), expected, "{most}");
        }
    }

    #[test]
    fn the_first_of_two_samples_of_one_moment_stays_the_first() {
        let samples: Vec<Sample> = (0..100).map(|series| sample(0, series)).collect();
        for most in [1, 2, 3, 50, 1000] {
            assert_eq!(in_order(most, &samples), samples, "{most}");
        }
    }

    #[test]
    fn nothing_is_nothing() {
        assert!(in_order(1, &[]).is_empty());
    }
}
