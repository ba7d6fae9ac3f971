//! Numbers to bytes and back, in one order for both: how the state of a run is saved. A private
//! format of this build and no part of the specification; knows no pictures and no files.

use crate::error::EncodeError;

/// Bytes that values are written to, or set from.
pub(crate) enum Archive<'a> {
    Writing(&'a mut Vec<u8>),
    /// What is left to read.
    Reading(&'a [u8]),
}

/// A run whose state can be saved and restored.
pub(crate) trait Archived {
    /// Saves or restores what the next step hangs on and the start of the run does not tell.
    fn archive(&mut self, archive: &mut Archive) -> Result<(), EncodeError>;
}

/// Each fails where there is less to read.
impl Archive<'_> {
    pub fn bytes(&mut self, bytes: &mut [u8]) -> Result<(), EncodeError> {
        match self {
            Self::Writing(to) => to.extend_from_slice(bytes),
            Self::Reading(rest) => {
                let (first, after) =
                    rest.split_at_checked(bytes.len()).ok_or(EncodeError::CheckpointDamaged)?;
                bytes.copy_from_slice(first);
                *rest = after;
            }
        }
        Ok(())
    }

    /// Bytes with their number.
    pub fn sized(&mut self, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut len = bytes.len();
        self.usize(&mut len)?;
        if let Self::Reading(rest) = self
            && len > rest.len()
        {
            return Err(EncodeError::CheckpointDamaged);
        }
        bytes.resize(len, 0);
        self.bytes(bytes)
    }

    pub fn bool(&mut self, value: &mut bool) -> Result<(), EncodeError> {
        let mut byte = [u8::from(*value)];
        self.bytes(&mut byte)?;
        *value = byte != [0];
        Ok(())
    }

    pub fn i32(&mut self, value: &mut i32) -> Result<(), EncodeError> {
        let mut bytes = value.to_le_bytes();
        self.bytes(&mut bytes)?;
        *value = i32::from_le_bytes(bytes);
        Ok(())
    }

    pub fn u32(&mut self, value: &mut u32) -> Result<(), EncodeError> {
        let mut bytes = value.to_le_bytes();
        self.bytes(&mut bytes)?;
        *value = u32::from_le_bytes(bytes);
        Ok(())
    }

    /// A number below 2^32.
    pub fn usize(&mut self, value: &mut usize) -> Result<(), EncodeError> {
        let mut narrow = *value as u32;
        self.u32(&mut narrow)?;
        *value = narrow as usize;
        Ok(())
    }

    pub fn f64(&mut self, value: &mut f64) -> Result<(), EncodeError> {
        let mut bytes = value.to_le_bytes();
        self.bytes(&mut bytes)?;
        *value = f64::from_le_bytes(bytes);
        Ok(())
    }

    pub fn f32(&mut self, value: &mut f32) -> Result<(), EncodeError> {
        let mut bytes = value.to_le_bytes();
        self.bytes(&mut bytes)?;
        *value = f32::from_le_bytes(bytes);
        Ok(())
    }

    pub fn f32s(&mut self, values: &mut [f32]) -> Result<(), EncodeError> {
        values.iter_mut().try_for_each(|value| self.f32(value))
    }
}
