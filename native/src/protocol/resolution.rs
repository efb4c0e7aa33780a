//! A configuration for bins of another size than its preset's.

use magnet_core::Level;
use magnet_core::level::LevelGeometry;

use crate::config::RunConfig;

/// How near the configuration's bin size must be to count as the wanted one.
const SAME: f64 = 0.01;

/// The configuration for bins of `tile_um`, with notes on what else changes than the bin size.
///
/// A bin's patch stays as it is while it covers the bin; else it is doubled, in µm and in pixels alike, until it does: with
/// the preset `paper` that is 28 µm (112 px) for bins of 8 and 16 µm, and 56 µm (224 px) for 55 µm. Where the next level's
/// tiles would not be wider than the bins any more, the tiles and patches of both wide levels are doubled together until
/// they are; their pixels stay, which would otherwise grow with the square.
pub fn at_resolution(mut config: RunConfig, tile_um: f64) -> (RunConfig, Vec<String>) {
    let mut notes = Vec::new();
    let levels = &mut config.model.levels;
    let own = levels.bin.tile_um;
    levels.bin.tile_um = tile_um;
    if (tile_um / own - 1.0).abs() <= SAME {
        return (config, notes);
    }
    // Bounded, because sizes may be anything until the model's configuration is checked.
    for _ in 0..DOUBLINGS {
        if levels.bin.patch_um >= tile_um {
            break;
        }
        levels.bin.patch_um *= 2.0;
        levels.bin.patch_px = levels.bin.patch_px.saturating_mul(2);
    }
    if config.model.wide_levels && levels.spot.tile_um <= tile_um {
        let mut times = 1.0;
        for _ in 0..DOUBLINGS {
            if levels.spot.tile_um * times > tile_um {
                break;
            }
            times *= 2.0;
        }
        for level in Level::WIDE {
            let LevelGeometry { tile_um, patch_um, .. } = levels.get_mut(level);
            (*tile_um, *patch_um) = (*tile_um * times, *patch_um * times);
        }
        notes.push(format!(
            "tiles of the wider levels are {} and {} µm, {times} times the preset's, to be wider than the bins",
            levels.spot.tile_um, levels.region.tile_um
        ));
    }
    (config, notes)
}

/// Doublings after which a size is no longer one that a slide has.
const DOUBLINGS: usize = 20;

#[cfg(test)]
mod tests {
    use magnet_core::level::PerLevel;

    use super::*;
    use crate::config::PRESETS;

    fn levels(preset: &str, tile_um: f64) -> (PerLevel<LevelGeometry>, usize) {
        let (config, notes) = at_resolution(RunConfig::preset(preset).unwrap(), tile_um);
        config.model.validate().unwrap();
        (config.model.levels, notes.len())
    }

    #[test]
    fn the_papers_patches_are_the_papers() {
        let patch = |tile_um| {
            let (levels, _) = levels("paper", tile_um);
            assert_eq!(levels.bin.tile_um, tile_um);
            (levels.bin.patch_um, levels.bin.patch_px)
        };
        assert_eq!((patch(8.0), patch(16.0)), ((28.0, 112), (28.0, 112)));
        assert_eq!((patch(55.0), patch(56.0)), ((56.0, 224), (56.0, 224)));
    }

    #[test]
    fn wide_tiles_stay_wider_than_the_bins() {
        let (at_16, notes) = levels("paper", 16.0);
        assert_eq!((at_16.spot.tile_um, at_16.region.tile_um, notes), (56.0, 128.0, 0));
        let (at_56, notes) = levels("paper", 56.0);
        assert_eq!((at_56.spot.tile_um, at_56.region.tile_um, notes), (112.0, 256.0, 1));
        assert_eq!((at_56.spot.patch_um, at_56.spot.patch_px), (112.0, 224));
        let (config, notes) = {
            let mut config = RunConfig::preset("paper").unwrap();
            config.model.wide_levels = false;
            at_resolution(config, 56.0)
        };
        assert_eq!((config.model.levels.spot.tile_um, notes.len()), (56.0, 0));
    }

    #[test]
    fn presets_keep_everything_at_their_own_resolution() {
        for (name, _) in PRESETS {
            let preset = RunConfig::preset(name).unwrap();
            let own = preset.model.levels.bin.tile_um;
            assert_eq!(at_resolution(preset.clone(), own), (preset, Vec::new()));
        }
    }
}
