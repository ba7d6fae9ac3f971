//! Whether the picture data of a JPEG file is all there. Its decoder fills up what is missing with
//! grey and goes on after what is damaged, both without a word, so the Huffman codes are walked
//! over here once more; nothing of the picture is computed (ITU-T T.81, annexes F and G).

use super::jpeg::Segments;

/// What can be wrong with the picture data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Damage {
    /// It holds what no encoder writes, or more than the picture takes, or its last scans are
    /// missing.
    Inside,
    /// It ends before the picture does.
    Short,
}

/// What was found of a scan.
struct Walked {
    length: usize,
    damage: Option<Damage>,
}

/// How the picture data ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ending {
    /// What was found first.
    pub damage: Option<Damage>,
    /// Whether the end is marked.
    pub marked: bool,
    /// Bytes up to there.
    pub length: usize,
}

/// A component of the frame.
struct Component {
    id: u8,
    /// Sampling factors.
    across: usize,
    down: usize,
    /// Its blocks: as many as it has, and with those that fill up the last units.
    blocks: (usize, usize),
    stride: usize,
    /// Which coefficients of each block are known not to be zero, in progressive files; in pages, and
    /// those only for which there is data: a header may claim any size.
    known: Vec<Vec<u64>>,
    /// Which coefficients have come to the last bit.
    done: u64,
}

/// Blocks of a page.
const PAGE: usize = 1024;

impl Component {
    fn known(&self, block: usize) -> u64 {
        let page = self.known.get(block / PAGE);
        page.and_then(|page| page.get(block % PAGE)).copied().unwrap_or(0)
    }

    fn set_known(&mut self, block: usize, known: u64) {
        let pages = self.known.len().max(block / PAGE + 1);
        self.known.resize_with(pages, Vec::new);
        let page = &mut self.known[block / PAGE];
        page.resize(PAGE, 0);
        page[block % PAGE] = known;
    }
}

struct Frame {
    progressive: bool,
    /// Units of an interleaved scan, across and down.
    units: (usize, usize),
    components: Vec<Component>,
}

/// Codes by their first 16 bits: length and symbol, or 0 for no code.
type Codes = Vec<u16>;

#[derive(Default)]
struct Tables {
    dc: [Option<Codes>; 4],
    ac: [Option<Codes>; 4],
    /// Units from one restart marker to the next, or 0.
    restart: usize,
}

/// Walks over the frame and the scans of a file, from its first byte to the end of its picture.
pub(super) fn ending(bytes: &[u8]) -> Ending {
    let mut ending = Ending::default();
    let mut tables = Tables::default();
    let mut frame: Option<Frame> = None;
    let mut segments = Segments::new(bytes);
    while let Some(segment) = segments.next() {
        match segment.marker {
            0xc0..=0xc2 if frame.is_none() => frame = Frame::new(segment.marker, segment.body),
            // What this does not walk over, or a second frame: its decoder is asked alone.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => frame = None,
            0xc4 => tables.define(segment.body),
            0xdd => {
                let interval = segment.body.first_chunk().map_or(0, |i| u16::from_be_bytes(*i));
                tables.restart = interval.into();
            }
            0xda => {
                let Some(frame) = &mut frame else { continue };
                let Some(scan) = frame.scan(segment.body, &tables, segments.rest()) else {
                    continue;
                };
                segments.step_over(scan.length);
                ending.damage = ending.damage.or(scan.damage);
                // Zeros that fill up the data are no damage.
                let zeros = segments.rest().iter().take_while(|&&byte| byte == 0).count();
                let after = &segments.rest()[zeros..];
                if scan.damage.is_none() && after.first() != Some(&0xff) {
                    if is_followed_by_segment(after) {
                        ending.damage = Some(Damage::Inside);
                    } else if frame.is_whole() {
                        // What follows is something else.
                        let data = &bytes[..bytes.len() - segments.rest().len()];
                        let before = data.iter().rev().take_while(|&&byte| byte == 0).count();
                        if before >= 2 && before + zeros >= UNWRITTEN {
                            ending.damage = Some(Damage::Short);
                        }
                        break;
                    }
                }
            }
            0xd9 => {
                ending.marked = true;
                break;
            }
            _ => {}
        }
    }
    ending.length = bytes.len() - segments.rest().len();
    let is_whole = frame.as_ref().map(Frame::is_whole);
    let missing = if ending.marked { is_whole == Some(false) } else { is_whole != Some(true) };
    if missing || !ending.marked && ending.damage.is_some() {
        let damage = if ending.marked { Damage::Inside } else { Damage::Short };
        ending.damage = Some(ending.damage.unwrap_or(damage).max(damage));
    }
    ending
}

/// So many zeros at the end of a file, which begin in the picture data, were never written: they are
/// codes, too.
const UNWRITTEN: usize = 32;

/// Whether what is left over of picture data ends with a marker.
fn is_followed_by_segment(data: &[u8]) -> bool {
    let marker = data.windows(2).find(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff));
    marker.is_some_and(
        |pair| matches!(pair[1], 0xc4 | 0xd0..=0xd7 | 0xd9..=0xdd | 0xe0..=0xef | 0xfe),
    )
}

impl Tables {
    /// Reads the tables of a DHT segment, up to what is malformed (T.81, B.2.4.2 and annex C).
    fn define(&mut self, mut body: &[u8]) {
        while let Some((head, rest)) = body.split_first_chunk::<17>() {
            let count: usize = head[1..].iter().map(|&count| usize::from(count)).sum();
            let Some((symbols, rest)) = rest.split_at_checked(count) else { return };
            body = rest;
            let mut codes = vec![0; 1 << 16];
            let (mut next, mut symbols) = (0usize, symbols.iter());
            for (length, &count) in (1..=16).zip(&head[1..]) {
                for &symbol in symbols.by_ref().take(count.into()) {
                    let end = next + (1 << (16 - length));
                    let Some(entries) = codes.get_mut(next..end) else { return };
                    entries.fill((length << 8) as u16 | u16::from(symbol));
                    next = end;
                }
            }
            let class = if head[0] >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            if let Some(table) = class.get_mut(usize::from(head[0] & 15)) {
                *table = Some(codes);
            }
        }
    }
}

impl Frame {
    /// Reads a frame header (T.81, B.2.2).
    fn new(marker: u8, body: &[u8]) -> Option<Self> {
        let (head, rest) = body.split_first_chunk::<6>()?;
        let number = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
        let (height, width) = (number(1), number(3));
        let parts: Vec<&[u8]> = rest.chunks_exact(3).take(head[5].into()).collect();
        let factors = |part: &[u8]| (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        let most = |side: fn((usize, usize)) -> usize| parts.iter().map(|p| side(factors(p))).max();
        let (across, down) = (most(|f| f.0)?, most(|f| f.1)?);
        let valid =
            |part: &&[u8]| (1..=4).contains(&factors(part).0) && (1..=4).contains(&factors(part).1);
        if width == 0 || height == 0 || !parts.iter().all(valid) {
            return None;
        }
        let units = (width.div_ceil(8 * across), height.div_ceil(8 * down));
        let components = parts.iter().map(|part| {
            let (a, d) = factors(part);
            let blocks = |size: usize, factor: usize, most: usize| {
                (size * factor).div_ceil(most).div_ceil(8)
            };
            let stride = units.0 * a;
            Component {
                id: part[0],
                across: a,
                down: d,
                blocks: (blocks(width, a, across), blocks(height, d, down)),
                stride,
                known: Vec::new(),
                done: 0,
            }
        });
        Some(Self { progressive: marker == 0xc2, units, components: components.collect() })
    }

    /// Whether all scans have come.
    fn is_whole(&self) -> bool {
        self.components.iter().all(|component| component.done == u64::MAX)
    }

    /// Walks over a scan, unless the header or the tables leave open how to read it.
    fn scan(&mut self, header: &[u8], tables: &Tables, data: &[u8]) -> Option<Walked> {
        let (&count, rest) = header.split_first()?;
        let (parts, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let &[start, end, bits, ..] = rest else { return None };
        let spectrum = if self.progressive { (start, end.min(63)) } else { (0, 63) };
        let scan = Scan {
            spectrum,
            refines: self.progressive && bits >> 4 != 0,
            progressive: self.progressive,
        };
        let mut chosen = Vec::new();
        for part in parts.chunks_exact(2) {
            let index = self.components.iter().position(|component| component.id == part[0])?;
            let table = |tables: &[Option<Codes>; 4], at: u8| {
                tables.get(usize::from(at)).cloned().flatten()
            };
            chosen.push((index, table(&tables.dc, part[1] >> 4), table(&tables.ac, part[1] & 15)));
        }
        let needs_dc = spectrum.0 == 0 && !scan.refines;
        let needs_ac = spectrum.1 > 0;
        let readable = |(_, dc, ac): &(usize, Option<Codes>, Option<Codes>)| {
            (!needs_dc || dc.is_some()) && (!needs_ac || ac.is_some())
        };
        if chosen.is_empty() || spectrum.0 > spectrum.1 || !chosen.iter().all(readable) {
            return None;
        }
        let mut bits_of = Bits::new(data);
        let walked = self.walk(&scan, &chosen, tables.restart, &mut bits_of);
        let coefficients = (u64::MAX >> (63 - spectrum.1)) & (u64::MAX << spectrum.0);
        for &(index, ..) in &chosen {
            let component = &mut self.components[index];
            if !self.progressive || bits & 15 == 0 {
                component.done |= coefficients;
            }
        }
        Some(Walked { length: bits_of.at, damage: walked.err() })
    }

    fn walk(
        &mut self,
        scan: &Scan,
        chosen: &[(usize, Option<Codes>, Option<Codes>)],
        restart: usize,
        bits: &mut Bits,
    ) -> Result<(), Damage> {
        let (across, down) = match chosen {
            [(index, ..)] => self.components[*index].blocks,
            _ => self.units,
        };
        let mut run = 0;
        for unit in 0..across * down {
            if restart > 0 && unit > 0 && unit % restart == 0 {
                bits.restart((unit / restart - 1) % 8)?;
                run = 0;
            }
            let (x, y) = (unit % across, unit / across);
            for (index, dc, ac) in chosen {
                let component = &mut self.components[*index];
                let (wide, high) = match chosen.len() {
                    1 => (1, 1),
                    _ => (component.across, component.down),
                };
                for block in 0..wide * high {
                    let (x, y) = (x * wide + block % wide, y * high + block / wide);
                    let index = y * component.stride + x;
                    let before = component.known(index);
                    let mut known = before;
                    scan.block(bits, dc.as_deref(), ac.as_deref(), &mut known, &mut run)?;
                    if scan.progressive && known != before {
                        component.set_known(index, known);
                    }
                }
            }
            if bits.past_the_end() {
                return Err(Damage::Short);
            }
        }
        bits.finish().map(drop)
    }
}

/// What a scan brings.
struct Scan {
    progressive: bool,
    /// First and last coefficient.
    spectrum: (u8, u8),
    /// Whether it adds a bit to coefficients that came before.
    refines: bool,
}

impl Scan {
    /// Walks over the codes of one block; `run` counts the blocks that end at once.
    fn block(
        &self,
        bits: &mut Bits,
        dc: Option<&[u16]>,
        ac: Option<&[u16]>,
        known: &mut u64,
        run: &mut u32,
    ) -> Result<(), Damage> {
        let (start, last) = (u32::from(self.spectrum.0), u32::from(self.spectrum.1));
        if start == 0 {
            if self.refines {
                bits.skip(1);
            } else if let Some(dc) = dc {
                let length = bits.symbol(dc)?;
                if length > 16 {
                    return Err(Damage::Inside);
                }
                bits.skip(length.into());
            }
        }
        let Some(ac) = ac.filter(|_| last > 0) else { return Ok(()) };
        match self.refines {
            true => Self::refine(bits, ac, (start, last), known, run),
            false => self.coefficients(bits, ac, (start.max(1), last), known, run),
        }
    }

    fn coefficients(
        &self,
        bits: &mut Bits,
        ac: &[u16],
        (start, last): (u32, u32),
        known: &mut u64,
        run: &mut u32,
    ) -> Result<(), Damage> {
        if *run > 0 {
            *run -= 1;
            return Ok(());
        }
        let mut at = start;
        while at <= last {
            let symbol = bits.symbol(ac)?;
            let (zeros, length) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if length == 0 && zeros < 15 {
                if self.progressive {
                    *run = (1 << zeros) - 1 + bits.number(zeros);
                } else if zeros > 0 {
                    return Err(Damage::Inside);
                }
                return Ok(());
            }
            at += zeros + 1;
            if length > 0 {
                if at - 1 > last {
                    return Err(Damage::Inside);
                }
                *known |= 1 << (at - 1);
                bits.skip(length);
            }
        }
        if at > last + 1 { Err(Damage::Inside) } else { Ok(()) }
    }

    fn refine(
        bits: &mut Bits,
        ac: &[u16],
        (start, last): (u32, u32),
        known: &mut u64,
        run: &mut u32,
    ) -> Result<(), Damage> {
        let mut at = start;
        while *run == 0 && at <= last {
            let symbol = bits.symbol(ac)?;
            let (mut zeros, length) = (u32::from(symbol >> 4), symbol & 15);
            match length {
                0 if zeros < 15 => {
                    *run = (1 << zeros) + bits.number(zeros);
                    break;
                }
                0 => {}
                1 => bits.skip(1),
                _ => return Err(Damage::Inside),
            }
            while at <= last {
                if *known >> at & 1 == 1 {
                    bits.skip(1);
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                at += 1;
            }
            if length == 1 {
                if at > last {
                    return Err(Damage::Inside);
                }
                *known |= 1 << at;
            }
            at += 1;
        }
        if *run > 0 {
            let rest = *known & (u64::MAX >> (63 - last)) & u64::MAX.checked_shl(at).unwrap_or(0);
            bits.skip(rest.count_ones());
            *run -= 1;
        }
        Ok(())
    }
}

/// Bits of entropy-coded data, without the bytes that are stuffed in; zeros where a marker or the
/// end follows.
struct Bits<'a> {
    data: &'a [u8],
    /// Where the next byte is.
    at: usize,
    /// The next bits, highest first, and how many they are.
    held: u64,
    count: u32,
    /// Bits that were made up, with those that are held among them.
    beyond: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, held: 0, count: 0, beyond: 0 }
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match self.data.get(self.at) {
                Some(0xff) if self.data.get(self.at + 1) != Some(&0) => None,
                Some(0xff) => {
                    self.at += 2;
                    Some(0xff)
                }
                Some(&byte) => {
                    self.at += 1;
                    Some(byte)
                }
                None => None,
            };
            if byte.is_none() {
                self.beyond = self.beyond.saturating_add(8);
            }
            self.held |= u64::from(byte.unwrap_or(0)) << (56 - self.count);
            self.count += 8;
        }
    }

    fn skip(&mut self, count: u32) {
        let mut count = count;
        while count > 0 {
            if self.count < count.min(32) {
                self.fill();
            }
            let taken = count.min(32);
            self.held <<= taken;
            self.count -= taken;
            count -= taken;
        }
    }

    /// A number of at most 16 bits.
    fn number(&mut self, count: u32) -> u32 {
        if self.count < 16 {
            self.fill();
        }
        let number = self.held >> 32 >> (32 - count);
        self.skip(count);
        number as u32
    }

    fn symbol(&mut self, codes: &[u16]) -> Result<u8, Damage> {
        if self.count < 16 {
            self.fill();
        }
        let code = codes[(self.held >> 48) as usize];
        match code >> 8 {
            // The bits that fill up the last byte may be no code.
            0 if self.beyond > 0 && self.count < self.beyond + 16 => Err(Damage::Short),
            0 => Err(Damage::Inside),
            length => {
                self.skip(length.into());
                Ok(code as u8)
            }
        }
    }

    /// Whether bits that are not there have been taken.
    fn past_the_end(&self) -> bool {
        self.beyond > self.count
    }

    /// Goes to the next byte and tells whether that is one that was not needed.
    fn finish(&mut self) -> Result<bool, Damage> {
        if self.past_the_end() {
            return Err(Damage::Short);
        }
        let left = (self.count - self.beyond) / 8;
        // They have been taken off already.
        for _ in 0..left {
            let stuffed = self.at >= 2 && self.data[self.at - 2..self.at] == [0xff, 0];
            self.at -= if stuffed { 2 } else { 1 };
        }
        (self.held, self.count, self.beyond) = (0, 0, 0);
        Ok(left > 0)
    }

    /// Steps over the restart marker of this number.
    fn restart(&mut self, number: usize) -> Result<(), Damage> {
        if self.finish()? {
            return Err(Damage::Inside);
        }
        while self.data.get(self.at..self.at + 2) == Some(&[0xff, 0xff]) {
            self.at += 1;
        }
        match self.data.get(self.at..self.at + 2) {
            Some(&[0xff, marker]) if marker == 0xd0 + number as u8 => {
                self.at += 2;
                Ok(())
            }
            Some(&[0xff, 0xd0..=0xd7]) => Err(Damage::Inside),
            _ => Err(Damage::Short),
        }
    }
}
