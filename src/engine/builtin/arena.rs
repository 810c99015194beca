//! Where the buffers of a program lie in one allocation: buffers that are never alive together
//! share bytes, so that the whole stays small and warm in the cache.

use super::program::{Operand, Program};

/// Alignment of each buffer: a cache line, and the widest vector.
const ALIGN: usize = 64;

/// Offset of each buffer, and the length of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub offsets: Vec<usize>,
    pub len: usize,
}

/// Lays out `program`'s buffers, each followed by `slack` bytes: largest first, each at the lowest
/// offset that is free for its whole life.
pub(super) fn layout(program: &Program, slack: usize) -> Layout {
    let lives = lives(program);
    let mut order: Vec<usize> = (0..program.buffers.len()).collect();
    order.sort_by_key(|b| std::cmp::Reverse(program.buffers[*b]));
    let mut offsets = vec![0; program.buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut len = 0;
    for buffer in order {
        let size = (program.buffers[buffer] + slack).next_multiple_of(ALIGN);
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|other| overlap(lives[buffer], lives[**other]))
            .map(|other| (offsets[*other], (program.buffers[*other] + slack).next_multiple_of(ALIGN)))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, size_taken) in taken {
            if start >= offset + size {
                break;
            }
            offset = offset.max(start + size_taken);
        }
        offsets[buffer] = offset;
        len = len.max(offset + size);
        placed.push(buffer);
    }
    Layout { offsets, len }
}

fn overlap(a: (usize, usize), b: (usize, usize)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// First and last step at which each buffer is in use.
fn lives(program: &Program) -> Vec<(usize, usize)> {
    let mut lives = vec![(usize::MAX, 0); program.buffers.len()];
    let mut touch = |operand: &Operand, at: usize| {
        if let Operand::Buffer(b) = operand {
            lives[*b] = (lives[*b].0.min(at), lives[*b].1.max(at));
        }
    };
    for (at, step) in program.steps.iter().enumerate() {
        step.inputs.iter().chain([&step.output]).for_each(|o| touch(o, at));
    }
    for (_, buffer) in &program.loads {
        touch(&Operand::Buffer(*buffer), 0);
    }
    for (buffer, _) in &program.stores {
        touch(&Operand::Buffer(*buffer), program.steps.len());
    }
    lives
}

#[cfg(test)]
mod tests {
    use super::super::program::{Step, StepOp};
    use super::*;

    fn lookup(input: usize, output: usize) -> Step {
        Step {
            name: String::new(),
            kind: String::new(),
            macs: 0,
            inputs: vec![Operand::Buffer(input)],
            output: Operand::Buffer(output),
            op: StepOp::Lookup { len: 0 },
            constants: 0,
        }
    }

    #[test]
    fn buffers_of_a_chain_share_bytes_and_live_ones_do_not() {
        let steps = vec![lookup(0, 1), lookup(1, 2), lookup(2, 3)];
        let program = Program {
            steps,
            buffers: vec![100; 4],
            loads: vec![(0, 0)],
            stores: vec![(3, 0)],
            inputs: 1,
            outputs: vec![],
        };
        let layout = layout(&program, 28);
        assert_eq!(layout.len, 256);
        assert_eq!(layout.offsets[0], layout.offsets[2]);
        assert_ne!(layout.offsets[0], layout.offsets[1]);
        assert!(layout.offsets.iter().all(|o| o % ALIGN == 0));
    }

    #[test]
    fn a_buffer_written_twice_lives_from_its_first_write() {
        let steps = vec![lookup(0, 2), lookup(1, 2), lookup(2, 3)];
        let program = Program {
            steps,
            buffers: vec![64, 64, 128, 64],
            loads: vec![(0, 0), (1, 1)],
            stores: vec![(3, 0)],
            inputs: 2,
            outputs: vec![],
        };
        let layout = layout(&program, 0);
        let [a, b, joined, _] = layout.offsets[..] else { unreachable!() };
        assert!(
            a.abs_diff(b) >= 64
                && (a >= joined + 128 || a + 64 <= joined)
                && (b >= joined + 128 || b + 64 <= joined)
        );
    }
}
