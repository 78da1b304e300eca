//! Which part of a picture is shown, and how large.

use image::metadata::Orientation;

use super::options::{Fit, Options};

/// The part that is shown and the size it gets, both as the picture lies in the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Layout {
    /// Pixels of the picture; fractions are meant.
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) part_width: f64,
    pub(super) part_height: f64,
    /// Pixels of the result.
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Layout {
    /// For a picture of `width`×`height` pixels that `orientation` makes upright.
    pub(super) fn new(
        width: u32,
        height: u32,
        orientation: Orientation,
        options: &Options,
    ) -> Self {
        // Turning is done last, on the few pixels that are left, so the box is turned first.
        let (box_width, box_height) = upright((options.width, options.height), orientation);
        let (across, down) = (f64::from(width), f64::from(height));
        let scales = (f64::from(box_width) / across, f64::from(box_height) / down);
        if options.fit == Fit::Cover {
            let scale = scales.0.max(scales.1);
            let part_width = (f64::from(box_width) / scale).min(across);
            let part_height = (f64::from(box_height) / scale).min(down);
            return Self {
                x: (across - part_width) / 2.0,
                y: (down - part_height) / 2.0,
                part_width,
                part_height,
                width: box_width,
                height: box_height,
            };
        }
        let scale = match options.fit {
            Fit::Inside => scales.0.min(scales.1).min(1.0),
            _ => scales.0.min(scales.1),
        };
        Self {
            x: 0.0,
            y: 0.0,
            part_width: across,
            part_height: down,
            width: ((across * scale).round() as u32).clamp(1, box_width),
            height: ((down * scale).round() as u32).clamp(1, box_height),
        }
    }

    /// Pixels of the result per pixel of the picture, in the direction that has more of them.
    pub(super) fn scale(&self) -> f64 {
        let across = f64::from(self.width) / self.part_width;
        let down = f64::from(self.height) / self.part_height;
        across.max(down)
    }
}

/// Width and height of a picture once `orientation` has made it upright.
pub(super) fn upright((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    if swaps_sides(orientation) {
        (height, width)
    } else {
        (width, height)
    }
}

fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(width: u32, height: u32, orientation: Orientation, fit: Fit) -> Layout {
        let options = Options {
            fit,
            ..Options::default()
        };
        Layout::new(width, height, orientation, &options)
    }

    #[test]
    fn a_wide_picture_loses_its_sides_evenly() {
        let layout = layout(600, 300, Orientation::NoTransforms, Fit::Cover);
        assert_eq!((layout.x, layout.part_width), (200.0, 200.0));
        assert_eq!((layout.y, layout.part_height), (0.0, 300.0));
    }

    #[test]
    fn a_picture_on_its_side_is_cut_on_its_side() {
        let layout = layout(300, 600, Orientation::Rotate90, Fit::Cover);
        assert_eq!((layout.y, layout.part_height), (200.0, 200.0));
        assert_eq!((layout.width, layout.height), (300, 200));
    }

    #[test]
    fn a_line_of_pixels_keeps_its_middle() {
        let layout = layout(10_000, 1, Orientation::NoTransforms, Fit::Cover);
        assert!(layout.part_width > 0.6 && layout.part_width < 0.7);
        assert!((layout.x + layout.part_width / 2.0 - 5000.0).abs() < 0.01);
    }

    #[test]
    fn inside_never_enlarges_and_contain_does() {
        let inside = layout(40, 20, Orientation::NoTransforms, Fit::Inside);
        assert_eq!((inside.width, inside.height), (40, 20));
        let contain = layout(40, 20, Orientation::NoTransforms, Fit::Contain);
        assert_eq!((contain.width, contain.height), (200, 100));
        let line = layout(10_000, 1, Orientation::NoTransforms, Fit::Inside);
        assert_eq!((line.width, line.height), (200, 1));
    }
}
