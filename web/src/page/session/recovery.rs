//! What to do when an engine is lost: with which device and batches the next one goes on, and what people are told.

use crate::protocol::{BatchLimits, DeviceChoice, DeviceKind};

/// Below this many pixels at once smaller batches save no memory that matters.
pub const FEWEST_CHUNK_PIXELS: usize = 20_000;
/// The first limit that the page sets on a GPU, where the engine chose for itself before.
const FIRST_GPU_CHUNK_PIXELS: usize = 500_000;
/// Likewise on the CPU, whose steps are short to begin with.
const FIRST_CPU_CHUNK_PIXELS: usize = 60_000;
/// Losses of one run after which something is wrong that no new engine mends.
const MOST_LOSSES: u32 = 16;

/// Why an engine is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its device is gone.
    Device,
    /// The memory did not suffice.
    Memory,
    /// It ended, or said that it cannot go on.
    Engine,
}

/// What the engine was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Choosing a device.
    Start,
    /// Reading a bundle.
    Model,
    /// Decoding an image.
    Image,
    /// Predicting.
    Run,
    /// Answering for values or a file.
    Answer,
    /// Nothing.
    Rest,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// A new engine does the same again, from what was finished. The text says what changes.
    Continue(String),
    /// A new engine goes on, but without the task that ended the last one. The text says why.
    Abandon(String),
    /// No engine can be had. The text says why.
    Stop(String),
}

/// With which device and batches the next engine goes on.
#[derive(Debug, Clone)]
pub struct Recovery {
    choice: DeviceChoice,
    limits: BatchLimits,
    /// Whether a GPU failed so often that the CPU has to do.
    cpu_only: bool,
    gpu_losses: u32,
    losses: u32,
}

impl Recovery {
    /// Begins with what the user chose.
    pub fn new(choice: DeviceChoice, limits: BatchLimits) -> Self {
        Self { choice, limits, cpu_only: false, gpu_losses: 0, losses: 0 }
    }

    /// A run that the user asked for begins: a loss in an earlier one says nothing about it. What was found out about
    /// the memory and the GPU stays.
    pub fn renew(&mut self) {
        self.gpu_losses = 0;
        self.losses = 0;
    }

    /// The device to ask for.
    pub fn device(&self) -> DeviceChoice {
        if self.cpu_only { DeviceChoice::Cpu } else { self.choice }
    }

    /// Whether the CPU is asked for although the user did not choose it.
    pub fn has_fallen_back(&self) -> bool {
        self.cpu_only && self.choice != DeviceChoice::Cpu
    }

    /// The batches to ask for.
    pub fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// What to do after a loss on `device` (`None` before one was chosen) during `task`, at `percent` of a run.
    pub fn remedy(
        &mut self,
        loss: Loss,
        task: Task,
        device: Option<DeviceKind>,
        percent: Option<u32>,
    ) -> Remedy {
        self.losses += 1;
        if self.losses > MOST_LOSSES {
            return Remedy::Stop(format!(
                "The engine was lost {MOST_LOSSES} times in a row, which nothing here can mend. Reload the page or \
                 choose another device."
            ));
        }
        match (task, loss) {
            (Task::Start, _) => self.after_failed_start(),
            (Task::Model, Loss::Memory | Loss::Engine) => Remedy::Abandon(
                "The engine ended while it read the model; the file may be damaged or need more memory than a \
                 browser tab has."
                    .into(),
            ),
            (Task::Image, Loss::Memory | Loss::Engine) => Remedy::Abandon(
                "The engine ended while it decoded the image; it needs more memory than a browser tab has. Cut the \
                 image or shrink it, or predict it with magnet-native."
                    .into(),
            ),
            (Task::Answer, Loss::Memory | Loss::Engine) => Remedy::Abandon(
                "The engine ended while it made what was asked for; a new one has taken over the map. Ask again, or \
                 for fewer genes."
                    .into(),
            ),
            (Task::Run, Loss::Memory) => self.with_smaller_batches(device, "The memory did not suffice", percent),
            (Task::Run, Loss::Engine) if device == Some(DeviceKind::Cpu) => {
                self.with_smaller_batches(device, "The engine ended unexpectedly", percent)
            }
            (_, Loss::Device) => self.on_same_device_once("The GPU was lost", percent),
            (_, Loss::Engine | Loss::Memory) => {
                self.on_same_device_once("The engine ended unexpectedly", percent)
            }
        }
    }

    fn after_failed_start(&mut self) -> Remedy {
        if self.device() == DeviceChoice::Auto {
            self.cpu_only = true;
            return Remedy::Continue(
                "The engine ended while it looked for a GPU; it works on the CPU instead, which is slower."
                    .into(),
            );
        }
        let device = if self.device() == DeviceChoice::Gpu { "GPU" } else { "CPU" };
        Remedy::Stop(format!(
            "The engine cannot be started on the {device}. Choose another device or reload the page."
        ))
    }

    fn on_same_device_once(&mut self, what: &str, percent: Option<u32>) -> Remedy {
        self.gpu_losses += 1;
        let from = from_last_tile(percent);
        if self.device() == DeviceChoice::Cpu {
            return Remedy::Continue(format!("{what}{}; a new one continues{from}.", at(percent)));
        }
        if self.gpu_losses == 1 {
            return Remedy::Continue(format!("{what}{}; continuing on the same device{from}.", at(percent)));
        }
        self.cpu_only = true;
        Remedy::Continue(format!(
            "{what} again{}; continuing on the CPU{from}, which is slower.",
            at(percent)
        ))
    }

    fn with_smaller_batches(
        &mut self,
        device: Option<DeviceKind>,
        what: &str,
        percent: Option<u32>,
    ) -> Remedy {
        let from = from_last_tile(percent);
        let on_cpu = device == Some(DeviceKind::Cpu);
        let pixels = match (self.limits.chunk_pixels, on_cpu) {
            (0, true) => FIRST_CPU_CHUNK_PIXELS,
            (0, false) => FIRST_GPU_CHUNK_PIXELS,
            (pixels, _) if pixels > FEWEST_CHUNK_PIXELS => (pixels / 2).max(FEWEST_CHUNK_PIXELS),
            (_, false) => {
                self.cpu_only = true;
                // The CPU chooses its own batches.
                self.limits.chunk_pixels = 0;
                return Remedy::Continue(format!(
                    "{what}{}, even with the smallest batches; continuing on the CPU{from}, which is slower.",
                    at(percent)
                ));
            }
            (_, true) => {
                return Remedy::Abandon(format!(
                    "{what}{}, even with the smallest batches on the CPU. Close other tabs and predict again, which \
                     continues{from}, or predict this image with magnet-native.",
                    at(percent)
                ));
            }
        };
        self.limits.chunk_pixels = pixels;
        Remedy::Continue(format!("{what}{}; continuing with smaller batches{from}.", at(percent)))
    }
}

fn at(percent: Option<u32>) -> String {
    percent.map_or(String::new(), |percent| format!(" at {percent} %"))
}

fn from_last_tile(percent: Option<u32>) -> &'static str {
    if percent.is_some() { " from the last finished tile" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: Option<DeviceKind> = Some(DeviceKind::Gpu);
    const CPU: Option<DeviceKind> = Some(DeviceKind::Cpu);

    fn recovery(choice: DeviceChoice) -> Recovery {
        Recovery::new(choice, BatchLimits::default())
    }

    fn text(remedy: Remedy) -> String {
        match remedy {
            Remedy::Continue(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lost_gpu_is_tried_once_more_and_then_left() {
        let mut recovery = recovery(DeviceChoice::Auto);
        let first = text(recovery.remedy(Loss::Device, Task::Run, GPU, Some(40)));
        assert_eq!(
            first,
            "The GPU was lost at 40 %; continuing on the same device from the last finished tile."
        );
        assert_eq!(recovery.device(), DeviceChoice::Auto);
        let second = text(recovery.remedy(Loss::Device, Task::Run, GPU, Some(55)));
        assert!(second.contains("again at 55 %; continuing on the CPU"), "{second}");
        assert_eq!(recovery.device(), DeviceChoice::Cpu);
        assert_eq!(recovery.limits(), BatchLimits::default());
    }

    #[test]
    fn each_run_may_lose_the_gpu_once() {
        let mut recovery = recovery(DeviceChoice::Gpu);
        for _ in 0..3 {
            recovery.remedy(Loss::Device, Task::Run, GPU, Some(1));
            assert_eq!(recovery.device(), DeviceChoice::Gpu);
            recovery.renew();
        }
    }

    #[test]
    fn batches_shrink_to_a_floor_then_the_cpu_then_a_message() {
        let mut recovery = recovery(DeviceChoice::Auto);
        let mut sizes = Vec::new();
        while recovery.device() == DeviceChoice::Auto {
            text(recovery.remedy(Loss::Memory, Task::Run, GPU, Some(3)));
            assert_eq!(recovery.limits().block_bins, BatchLimits::default().block_bins);
            sizes.push(recovery.limits().chunk_pixels);
        }
        assert_eq!(sizes, [500_000, 250_000, 125_000, 62_500, 31_250, 20_000, 0]);
        let mut sizes = Vec::new();
        let end = loop {
            match recovery.remedy(Loss::Memory, Task::Run, CPU, Some(3)) {
                Remedy::Continue(_) => sizes.push(recovery.limits().chunk_pixels),
                end => break end,
            }
        };
        assert_eq!(sizes, [60_000, 30_000, 20_000]);
        assert!(matches!(end, Remedy::Abandon(text) if text.contains("magnet-native")));
    }

    #[test]
    fn a_file_that_ends_the_engine_is_not_tried_again() {
        for task in [Task::Model, Task::Image, Task::Answer] {
            for loss in [Loss::Memory, Loss::Engine] {
                let remedy = recovery(DeviceChoice::Auto).remedy(loss, task, GPU, None);
                assert!(matches!(remedy, Remedy::Abandon(_)), "{task:?} {loss:?}: {remedy:?}");
            }
            let remedy = recovery(DeviceChoice::Auto).remedy(Loss::Device, task, GPU, None);
            assert!(matches!(remedy, Remedy::Continue(_)), "{task:?}: {remedy:?}");
        }
    }

    #[test]
    fn a_failed_start_falls_back_only_where_the_choice_was_free() {
        let mut auto = recovery(DeviceChoice::Auto);
        text(auto.remedy(Loss::Engine, Task::Start, None, None));
        assert_eq!(auto.device(), DeviceChoice::Cpu);
        assert!(matches!(auto.remedy(Loss::Engine, Task::Start, None, None), Remedy::Stop(_)));
        let mut gpu = recovery(DeviceChoice::Gpu);
        assert!(matches!(gpu.remedy(Loss::Engine, Task::Start, None, None), Remedy::Stop(_)));
    }

    #[test]
    fn losses_without_end_end() {
        let mut recovery = recovery(DeviceChoice::Cpu);
        let continued = (0..100)
            .take_while(|_| {
                matches!(recovery.remedy(Loss::Engine, Task::Rest, CPU, None), Remedy::Continue(_))
            })
            .count();
        assert_eq!(continued, MOST_LOSSES as usize);
    }
}
