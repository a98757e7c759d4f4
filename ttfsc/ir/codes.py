"""The error codes: what each means and the usual way out. `ttfsc explain CODE` prints these."""

from typing import NamedTuple


class Code(NamedTuple):
    """What `ttfsc explain` prints."""

    title: str
    explanation: str


SYNTAX = 1
NAME = 2
ARRAY = 3
SHAPE = 4
WINDOW = 5
STAGE = 6
VALUE = 7
NONFINITE = 8
WIDTH = 9
CAPACITY = 10
UNSUPPORTED = 11
FOLD = 12
FILE = 13
DAMAGED = 14
INPUT = 15
OPTION = 16
DIFFERS = 17
CALIBRATION = 18
MAPPING = 19
CHIP = 20
TOOL = 21

CODES: dict[int, Code] = {
    SYNTAX: Code(
        "the text is not a net",
        "A line of a .ttfs file could not be read. The message shows what was found and what would have been\n"
        "accepted there. Every line is `%name = op %operand key=value ... : type`; docs/text-form.md has the grammar.",
    ),
    NAME: Code(
        "a name is unknown, doubled or used too early",
        "Every value is defined once and read only afterwards; every @array must be in the .npz beside the text.",
    ),
    ARRAY: Code(
        "an array does not fit its op",
        "The array's rank, shape or number type is not what the op needs. The message gives both.",
    ),
    SHAPE: Code(
        "a type does not follow from the operands",
        "The type written behind the colon must be the one that the op computes from its operands.",
    ),
    WINDOW: Code(
        "a window is out of step",
        "A windowed layer opens exactly when its inputs' windows have closed; a streaming layer shares its input's\n"
        "window (semantics.md, Time and spikes).",
    ),
    STAGE: Code(
        "an op is not allowed at this stage",
        "Nets pass through imported -> canonical -> quantized -> mapped, and each stage has its own table of ops.\n"
        "Run the passes that lead there (ttfsc opt --list-passes), or start from the stage the command expects.",
    ),
    VALUE: Code(
        "a number is outside its range",
        "A weight that its bit width cannot hold, a stride of 0, a threshold table of the wrong kind.",
    ),
    NONFINITE: Code(
        "an array holds NaN or infinity",
        "The source model's training diverged or its file is damaged. Find the array with `ttfsc inspect`, retrain or\n"
        "re-export it.",
    ),
    WIDTH: Code(
        "a layer needs more than 32 bits",
        "The largest membrane that some input could cause does not fit a 32-bit accumulator, so the layer is refused\n"
        "rather than allowed to wrap. Use fewer bits, fewer ticks, or split the layer's fan-in.",
    ),
    CAPACITY: Code(
        "the network does not fit the chip",
        "More neurons, cores or memory than the chip description allows. The message gives need and limit: choose a\n"
        "larger chip (--arch), another partition, or a smaller layer.",
    ),
    UNSUPPORTED: Code(
        "the source model uses something ttfsc cannot express",
        "The message names the node, the reason and a rewrite. `ttfsc supported-ops` lists what is understood.",
    ),
    FOLD: Code(
        "a linear op cannot be folded exactly",
        "Batch norm and average pooling own no neurons, so they must merge into a synapse op without changing the\n"
        "function. Where that is impossible the message says why and what to change in the model.",
    ),
    FILE: Code("a file cannot be read or written", "It is missing, is not what its name says, or the folder exists."),
    DAMAGED: Code(
        "a file is damaged",
        "Its content does not parse, is truncated, or does not match the hash that was recorded for it.",
    ),
    INPUT: Code(
        "the inputs do not fit the network",
        "X.npz holds `x` [N, *input shape] inside the declared range and, where accuracy is wanted, `y` [N].",
    ),
    OPTION: Code("an option is wrong", "Its value is outside the range given in the message, or options contradict."),
    DIFFERS: Code(
        "two engines disagree",
        "The same inputs gave different spike times. The message names the first layer, neuron and tick. This is a\n"
        "bug in ttfsc or a damaged output folder: please report it with the folder.",
    ),
    CALIBRATION: Code(
        "activation ranges are unknown",
        "A ReLU trained without ttfsc.nn has no range of its own, so quantisation needs sample inputs: --calib X.npz.",
    ),
    MAPPING: Code(
        "the map section is inconsistent",
        "Cores overlap, leave neurons out, lie outside the mesh, or routes miss a destination.",
    ),
    CHIP: Code(
        "the chip description is wrong",
        "Unknown keys, missing figures, wrong units or negative values in a chip's TOML; see ttfsc/hardware/*.toml.",
    ),
    TOOL: Code("a tool is missing", "An optional package or a C compiler is needed for this and is not installed."),
}
