//! The form: every choice with a line that explains it, and those that are not possible with the reason.

use std::path::Path;

use crate::project::workspace::Project;
use crate::run::plan::{
    BiasCorrection, CalibrationSection, IgnoredScope, Method, OptimizeOptions, Precision, Preset, RangeMethod,
};
use crate::tui::widgets::input::TextInput;

/// The fields, from top to bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Number format.
    Precision,
    /// Images to calibrate on.
    Calibration,
    /// How many of them.
    Subset,
    /// How far to go.
    Method,
    /// How much may be lost, where the method keeps to a limit.
    MaxDrop,
    /// Which zero points.
    Preset,
    /// How ranges are chosen.
    Range,
    /// How mean errors are corrected.
    Bias,
    /// Nodes that stay FP32.
    IgnoredNames,
    /// Operators that stay FP32.
    IgnoredTypes,
    /// How long to measure.
    Seconds,
    /// Name of the variant.
    Name,
}

impl Field {
    /// From top to bottom.
    pub const ALL: [Field; 12] = [
        Field::Precision,
        Field::Calibration,
        Field::Subset,
        Field::Method,
        Field::MaxDrop,
        Field::Preset,
        Field::Range,
        Field::Bias,
        Field::IgnoredNames,
        Field::IgnoredTypes,
        Field::Seconds,
        Field::Name,
    ];

    /// The first of the advanced ones.
    pub const ADVANCED: Field = Field::Range;

    /// Its label.
    pub fn label(self) -> &'static str {
        match self {
            Field::Precision => "Precision",
            Field::Calibration => "Calibrate on",
            Field::Subset => "Subset",
            Field::Method => "Method",
            Field::MaxDrop => "Largest drop",
            Field::Preset => "Preset",
            Field::Range => "Ranges",
            Field::Bias => "Bias correction",
            Field::IgnoredNames => "Keep nodes",
            Field::IgnoredTypes => "Keep operators",
            Field::Seconds => "Measure",
            Field::Name => "Name",
        }
    }

    /// What a choice of it means, or the field where it is text.
    pub fn explanation(self, choice: usize) -> &'static str {
        match (self, choice) {
            (Field::Precision, _) => {
                "8-bit integers for weights and activations: the format that CPUs are fast at"
            }
            (Field::Calibration, _) => {
                "a folder of images that shows what activations look like; empty: the judged images, which flatters"
            }
            (Field::Subset, _) => "at most this many of them; a few hundred are enough",
            (Field::Method, 0) => "quantizes every layer that can be; needs no labels",
            (Field::Method, 1) => {
                "gives the worst layers back to FP32 until the drop is under the limit below"
            }
            (Field::Method, _) => {
                "tries presets and ranges on a part of the calibration images, keeps the best"
            }
            (Field::MaxDrop, _) => "how much may be lost: of top-1 where there are labels, else of agreement",
            (Field::Preset, 0) => "any zero point: often more accurate where activations can be negative",
            (Field::Preset, _) => "zero point 0 or 128: symmetric, as some other runtimes prefer it",
            (Field::Range, 0) => "the part of min-max with the least squared error of rounding and clipping",
            (Field::Range, 1) => "the smallest and the largest value of all images",
            (Field::Range, 2) => "the mean over the images of each image's smallest and largest value",
            (Field::Range, 3) => "all but one value in 100 000",
            (Field::Range, _) => "the part of min-max whose distribution changes least, by KL divergence",
            (Field::Bias, 0) => "layer after layer, kept only if held-out images say that it helps",
            (Field::Bias, 1) => "the bias takes up the mean error that rounding the weights makes",
            (Field::Bias, _) => "biases stay as they are",
            (Field::IgnoredNames, _) => "names of nodes that stay FP32, separated by spaces",
            (Field::IgnoredTypes, _) => "operators that stay FP32, such as Add, separated by spaces",
            (Field::Seconds, _) => "seconds of measuring for each model and setting",
            (Field::Name, _) => "what the result is called under its project",
        }
    }

    /// Its choices, with the reason where one is not possible; none where it is text.
    pub fn choices(self) -> &'static [(&'static str, Option<&'static str>)] {
        match self {
            Field::Precision => &[("INT8", None), ("FP16", Some("no CPU gains by it"))],
            Field::Method => &[("Default", None), ("AccuracyAware", None), ("Auto", None)],
            Field::Preset => &[("Mixed", None), ("Performance", None)],
            Field::Range => &[
                ("MSE", None),
                ("min-max", None),
                ("mean min-max", None),
                ("percentile", None),
                ("entropy", None),
            ],
            Field::Bias => &[("sequential", None), ("fast", None), ("none", None)],
            _ => &[],
        }
    }
}

/// What the user has chosen so far.
#[derive(Debug, Clone)]
pub struct Form {
    /// The project.
    pub project: Project,
    /// The field under the cursor.
    pub field: usize,
    /// The chosen one of each field with choices.
    pub chosen: [usize; Field::ALL.len()],
    /// The text of each other field.
    pub inputs: [TextInput; Field::ALL.len()],
    /// Whether letters go into the field under the cursor.
    pub editing: bool,
    /// Whether the user has given it a name.
    named: bool,
}

impl Form {
    /// The form for a project, with `calibration` as the images to calibrate on.
    pub fn new(project: Project, calibration: &str) -> Self {
        let mut form = Form {
            project,
            field: 1,
            chosen: [0; Field::ALL.len()],
            inputs: std::array::from_fn(|_| TextInput::default()),
            editing: false,
            named: false,
        };
        form.set(Field::Calibration, calibration);
        form.set(Field::Subset, "300");
        form.set(Field::MaxDrop, "1");
        form.set(Field::Seconds, "5");
        form.rename();
        form
    }

    /// The field under the cursor.
    pub fn here(&self) -> Field {
        Field::ALL[self.field]
    }

    /// The text of a field.
    pub fn text(&self, field: Field) -> &str {
        self.inputs[at(field)].text()
    }

    /// The chosen one of a field.
    pub fn choice(&self, field: Field) -> usize {
        self.chosen[at(field)]
    }

    fn set(&mut self, field: Field, text: &str) {
        self.inputs[at(field)] = TextInput::new(text);
    }

    /// Why a field does nothing beside what else was chosen; `None` if it does.
    pub fn idle(&self, field: Field) -> Option<&'static str> {
        match (field, self.choice(Field::Method)) {
            (Field::MaxDrop, method) if method != 1 => Some("only AccuracyAware keeps to a limit"),
            (Field::Preset | Field::Range, 2) => Some("Auto tries them and chooses"),
            _ => None,
        }
    }

    /// Goes to the next choice that is possible; gives the reason if there is none.
    pub fn turn(&mut self, forward: bool) -> Result<(), &'static str> {
        let field = self.here();
        if let Some(why) = self.idle(field) {
            return Err(why);
        }
        let choices = field.choices();
        let count = choices.len();
        if count == 0 {
            return Err("it is text; Enter edits it");
        }
        let mut next = self.chosen[self.field];
        let mut reason = None;
        for _ in 1..count {
            next = if forward { (next + 1) % count } else { (next + count - 1) % count };
            match choices[next].1 {
                None => {
                    self.chosen[self.field] = next;
                    self.rename();
                    return Ok(());
                }
                Some(why) => reason = Some(why),
            }
        }
        Err(reason.unwrap_or("there is no other choice"))
    }

    /// The text under the cursor was changed.
    pub fn edited(&mut self) {
        self.named |= self.here() == Field::Name;
    }

    /// A name that says what was chosen, until the user gives another.
    fn rename(&mut self) {
        if !self.named {
            let method = ["", " accuracy-aware", " auto"][self.choice(Field::Method)];
            let preset = [" mixed", " performance"][self.choice(Field::Preset)];
            let range =
                ["", " min-max", " mean min-max", " percentile", " entropy"][self.choice(Field::Range)];
            // The method auto chooses these by itself.
            let chosen = if method == " auto" { String::new() } else { format!("{preset}{range}") };
            self.set(Field::Name, &format!("int8{method}{chosen}"));
        }
    }

    /// The choices in the words of the run file.
    ///
    /// # Errors
    /// A number is none.
    pub fn options(&self) -> Result<OptimizeOptions, String> {
        let number = |field: Field, what: &str| {
            let text = self.text(field).trim();
            text.parse::<f64>().map_err(|_| format!("{}: expected {what}, found '{text}'", field.label()))
        };
        let words = |field| self.text(field).split_whitespace().map(str::to_string).collect();
        let calibration = self.text(Field::Calibration).trim();
        let mut options = OptimizeOptions::new(self.text(Field::Name).trim());
        let optimize = &mut options.optimize;
        optimize.dataset =
            (!calibration.is_empty()).then(|| CalibrationSection { path: calibration.to_string() });
        optimize.precision = Precision::Int8;
        optimize.method = [Method::Default, Method::AccuracyAware, Method::Auto][self.choice(Field::Method)];
        optimize.max_drop = number(Field::MaxDrop, "percentage points")?;
        let subset = number(Field::Subset, "a number of images")?;
        if !(1.0..=1e6).contains(&subset) || subset.fract() != 0.0 {
            return Err(format!("Subset: expected 1 to 1000000 images, found {subset}"));
        }
        optimize.subset_size = subset as u32;
        optimize.preset = [Preset::Mixed, Preset::Performance][self.choice(Field::Preset)];
        let ranges = [
            RangeMethod::Mse,
            RangeMethod::MinMax,
            RangeMethod::MeanMinMax,
            RangeMethod::Percentile,
            RangeMethod::Entropy,
        ];
        optimize.range = ranges[self.choice(Field::Range)];
        let corrections = [BiasCorrection::Sequential, BiasCorrection::Fast, BiasCorrection::None];
        optimize.bias_correction = corrections[self.choice(Field::Bias)];
        optimize.ignored_scope =
            IgnoredScope { names: words(Field::IgnoredNames), types: words(Field::IgnoredTypes) };
        options.performance.seconds = number(Field::Seconds, "a number of seconds")?;
        Ok(options)
    }

    /// Whether the model is judged against labels.
    pub fn has_labels(&self) -> bool {
        self.project.definition.dataset.labels.is_some()
    }

    /// The images that the result is judged by.
    pub fn judged(&self) -> &Path {
        &self.project.definition.dataset.path
    }
}

fn at(field: Field) -> usize {
    Field::ALL.iter().position(|other| *other == field).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::project::workspace::{DatasetDefinition, Definition};

    fn form() -> Form {
        let definition = Definition {
            model: "/m.onnx".into(),
            preprocess: "unit".into(),
            dataset: DatasetDefinition { path: "/i".into(), labels: None, classes: None },
        };
        let project = Project {
            id: "p".into(),
            path: "/p".into(),
            name: "p".into(),
            created: String::new(),
            definition,
            baseline: None,
            variants: Vec::new(),
        };
        Form::new(project, "")
    }

    #[test]
    fn the_defaults_are_those_of_a_run_file() {
        let options = form().options().unwrap();
        assert_eq!(options.optimize, OptimizeOptions::new("").optimize);
        assert_eq!(options.name, "int8 mixed");
    }

    #[test]
    fn the_name_follows_the_choices_until_it_is_given() {
        let mut form = form();
        form.field = at(Field::Preset);
        form.turn(true).unwrap();
        assert_eq!(form.text(Field::Name), "int8 performance");
        form.field = at(Field::Name);
        form.edited();
        form.field = at(Field::Range);
        form.turn(true).unwrap();
        assert_eq!(form.text(Field::Name), "int8 performance");
        assert_eq!(form.options().unwrap().optimize.range, RangeMethod::MinMax);
    }

    #[test]
    fn the_limit_of_the_drop_goes_to_the_method_that_keeps_it() {
        let mut form = form();
        form.field = at(Field::Method);
        form.turn(true).unwrap();
        form.set(Field::MaxDrop, "0.5");
        let options = form.options().unwrap();
        assert_eq!((options.optimize.method, options.optimize.max_drop), (Method::AccuracyAware, 0.5));
        assert_eq!(options.name, "int8 accuracy-aware mixed");
    }

    #[test]
    fn what_is_not_possible_gives_its_reason() {
        let mut form = form();
        form.field = at(Field::Precision);
        assert_eq!(form.turn(true), Err("no CPU gains by it"));
        assert_eq!(form.choice(Field::Precision), 0);
        form.set(Field::Subset, "many");
        assert_eq!(form.options().unwrap_err(), "Subset: expected a number of images, found 'many'");
    }
}
