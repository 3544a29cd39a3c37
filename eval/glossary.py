"""The report's glossary."""

_TERMS = {
    "AUROC": "Area under the receiver operating characteristic curve: how often a picture with "
    "the finding gets a higher score than one without. 0.5 is chance, 1.0 perfect.",
    "Ceiling": "What the judge reaches on real images with the same labels. A generator cannot "
    "honestly do better; a value above it suggests that findings are exaggerated.",
    "Collapse": "A generator that draws nearly the same picture whatever it is asked.",
    "Correction for several comparisons": "Of twenty tests one will show a difference by chance. "
    "Holm's correction raises p values so that all conclusions together err in at most 5 of 100 "
    "reports.",
    "Coverage": "The share of real images that have a generated picture among their nearest "
    "neighbours.",
    "Density": "How many real neighbourhoods a generated picture falls into, relative to what is "
    "expected; it can exceed 1.",
    "Encoder, extractor": "A frozen network that turns a picture into numbers. Distances under "
    "different encoders do not compare.",
    "False-match rate": "How many of 100 real pictures of other patients the search for copies "
    "takes for near copies. A rate that is fixed beforehand sets the limit; with few real pictures "
    "to set it on, more pass.",
    "FD, Fréchet distance": "A distance between two sets of pictures under one encoder. With few "
    "pictures it is mostly bias, so it is read beside the value of two real sets of the same size.",
    "FD∞": "The Fréchet distance carried on to endlessly many pictures, by a line through its "
    "values at several numbers of patients. It is near 0 for equal sets and can come out slightly "
    "negative.",
    "Fit of picture and text": "How similar an encoder of pictures and texts finds a picture and "
    "its prompt, on a scale where shuffled prompts give 0 and real images with their own text 1.",
    "Goal": "A value to be reached, set before the pictures were seen.",
    "Independent": "Neither the teacher of the generator nor trained on the pictures evaluated. "
    "What is not independent cannot be the only evidence.",
    "Interval": "A 95 % interval: of 100 such intervals from other patients, about 95 would hold "
    "the true value.",
    "Invented finding": "The prompt says that a finding is absent, and the judge sees it.",
    "Judge": "A frozen classifier that says which findings a picture shows. It is not a physician.",
    "KID, kernel distance": "A distance between two sets of pictures that is 0 on average for "
    "equal distributions, whatever their number. It can come out slightly negative.",
    "Missed finding": "The prompt asks for a finding, and the judge does not see it.",
    "MS-SSIM": "Multi-scale structural similarity of two pictures; 1 is identical. Used in two "
    "ways here, which have different aims.",
    "Near copy": "A generated picture that is nearer to a training picture than the limit. A few "
    "real pictures of other patients are, too: it need not be a copy.",
    "p value": "How often a difference at least as large would arise by chance if there were none.",
    "Planted copy": "A training picture, unchanged or slightly changed, put among those searched: "
    "whether it is found tells whether the search can be believed.",
    "Precision and recall": "Precision: the share of generated pictures that lie among real ones. "
    "Recall: the share of real images that have generated ones around them; low recall means "
    "little variety.",
    "Prompt": "The text, taken from a report, from which a picture is generated.",
    "Range over draws": "The smallest and largest of several values, each from another random "
    "draw of real images. It is no interval.",
    "Real to real": "The same measure between two sets of real images of other patients: what a "
    "perfect generator would reach.",
    "Sensitivity and specificity": "The shares of asked findings that the judge sees, and of "
    "absent findings that it does not see.",
    "Side as asked": "Whether a finding asked for on the left or right is seen there; 50 in 100 "
    "is chance.",
    "Teacher": "A frozen model to which training is aligned. It can never be the only witness for "
    "the generator it taught.",
    "Threshold": "The probability from which the judge counts a finding as seen. It is fixed on "
    "real images that are not evaluated.",
}


def glossary() -> list[tuple[str, str]]:
    """Terms of the report with their explanations, in alphabetical order."""
    return sorted(_TERMS.items(), key=lambda item: item[0].casefold())
