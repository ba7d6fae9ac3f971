//! A device in the CPU's place, and what happens where it fails: the one place that decides it for
//! renders and trainings alike. Knows neither pixels nor networks.

use crate::error::DeviceError;

/// A device that works in the CPU's place until it fails; the CPU goes on then, for good.
#[derive(Debug)]
pub struct Fallback<D> {
    device: Option<D>,
    /// What to call the device.
    name: String,
    /// Whether the device was asked for by name: it may not fail before it has done anything.
    required: bool,
    has_worked: bool,
    failure: Option<DeviceError>,
}

impl<D> Fallback<D> {
    /// The CPU alone.
    pub fn cpu() -> Self {
        Self {
            device: None,
            name: String::new(),
            required: false,
            has_worked: false,
            failure: None,
        }
    }

    /// A device of this name. One that is `required` is an error where it fails from the start.
    pub fn new(device: D, name: String, required: bool) -> Self {
        Self { device: Some(device), name, required, ..Self::cpu() }
    }

    /// The CPU, since a device that nobody asked for did not open.
    pub fn failed(failure: DeviceError) -> Self {
        Self { failure: Some(failure), ..Self::cpu() }
    }

    /// What the device makes of `work`; nothing where it is the CPU's turn, from now on if the device
    /// has just failed.
    ///
    /// # Errors
    /// That of a device that is required and has done nothing yet.
    pub fn run<T>(
        &mut self,
        work: impl FnOnce(&mut D) -> Result<T, DeviceError>,
    ) -> Result<Option<T>, DeviceError> {
        let result = self.prepare(work)?;
        self.has_worked |= result.is_some();
        Ok(result)
    }

    /// As [`Fallback::run`], for what only prepares the device's work.
    ///
    /// # Errors
    /// As [`Fallback::run`].
    pub fn prepare<T>(
        &mut self,
        work: impl FnOnce(&mut D) -> Result<T, DeviceError>,
    ) -> Result<Option<T>, DeviceError> {
        let Some(device) = &mut self.device else { return Ok(None) };
        match work(device) {
            Ok(result) => Ok(Some(result)),
            Err(failure) => self.give_up(failure).map(|()| None),
        }
    }

    /// Says that the device has worked, outside of [`Fallback::run`].
    pub fn worked(&mut self) {
        self.has_worked = true;
    }

    /// Says that the device has failed, outside of [`Fallback::run`]: it is the CPU's turn from now on.
    ///
    /// # Errors
    /// As [`Fallback::run`].
    pub fn give_up(&mut self, failure: DeviceError) -> Result<(), DeviceError> {
        if self.required && !self.has_worked {
            return Err(failure);
        }
        self.device = None;
        self.failure = Some(failure);
        Ok(())
    }

    /// The device, as long as it works.
    pub fn device(&self) -> Option<&D> {
        self.device.as_ref()
    }

    /// Why the device failed, if it did.
    pub fn failure(&self) -> Option<&DeviceError> {
        self.failure.as_ref()
    }

    /// What has done the work so far: the device, the CPU, or the one and then the other.
    pub fn name(&self) -> String {
        match (&self.device, self.has_worked) {
            (Some(_), _) => self.name.clone(),
            (None, true) => format!("{}, then cpu", self.name),
            (None, false) => "cpu".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken<T>() -> Result<T, DeviceError> {
        Err(DeviceError::new("unplugged"))
    }

    #[test]
    fn the_cpu_goes_on_where_a_device_fails() {
        let mut device = Fallback::new(7, "gpu (seven)".into(), true);
        assert_eq!(device.run(|device| Ok(*device + 1)), Ok(Some(8)));
        assert_eq!(device.name(), "gpu (seven)");
        assert_eq!(device.run(|_| broken::<i32>()), Ok(None));
        assert_eq!(device.run(|device| Ok(*device)), Ok(None));
        assert_eq!(device.name(), "gpu (seven), then cpu");
        assert_eq!(device.failure(), Some(&DeviceError::new("unplugged")));
    }

    #[test]
    fn a_device_that_was_asked_for_may_not_fail_from_the_start() {
        let mut asked_for = Fallback::new((), "gpu".into(), true);
        assert_eq!(asked_for.prepare(|()| Ok(())), Ok(Some(())));
        assert!(asked_for.run(|()| broken::<()>()).is_err());
        let mut automatic = Fallback::new((), "gpu".into(), false);
        assert_eq!(automatic.prepare(|()| broken::<()>()), Ok(None));
        assert_eq!(automatic.name(), "cpu");
        assert_eq!(Fallback::<()>::failed(DeviceError::new("no")).name(), "cpu");
    }
}
