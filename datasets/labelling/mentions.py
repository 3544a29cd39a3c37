"""Which phrases of a chest report mention which of CheXpert's findings.

What belongs to a finding follows the CheXpert labeler's classes (Irvin et al., arXiv 1901.07031):
scars and infiltrates are lung opacities, congestion and heart failure count as edema, lines and
implants as support devices. The phrases are our own. Granulomas, hernias, emphysema and the like
are none of the fourteen findings.
"""

Labels = tuple[str, ...]

_LUNG = r"(?:lungs?|lob(?:e|ar|es)|pulmonary|parenchymal|airspace|air-space|segment(?:al)?)"
_DENSE = (
    r"(?:airspace|air-space|parenchymal|patchy|streaky|hazy|linear|focal|basilar|bibasilar|basal"
    r"|retrocardiac|lower lobe|upper lobe|middle lobe|lung base|pulmonary|reticular|interstitial"
    r"|perihilar|ill-defined|vague|increased|bandlike|band-like|lingular)"
)
_DEVICES = (
    r"(?:endotracheal|nasogastric|orogastric|tracheostomy)(?: tubes?| catheters?)?|tracheostom\w*"
    r"|et tubes?|ett|ng tubes?|og tubes?"
    r"|(?:chest|feeding|enteric|gastric|gastrostomy|pleural|drainage|g|j|peg|dobb?-?hoff"
    r"|thoracostomy) tubes?|tubes?|dobb?-?hoff|picc(?: lines?)?|cvls?|swan[- ]ganz"
    r"|(?:\w+ )?catheters?|pigtails?|pleurx|port-?a-?caths?|port-a-\w*|medi-?ports?"
    r"|ports?(?! of entry)"
    r"|infusaports?|vascath|(?:central|venous|picc|subclavian|jugular|ij|indwelling|arterial"
    r"|support|monitoring|access|femoral|dialysis|midline) lines?|lines? (?:and|or) tubes?"
    r"|lines? (?:terminat|tip|in place)\w*|pacemakers?|pacers?|pacing|aicds?|icds?|(?:defibrillator"
    r"|cardioverter)s?|(?:pacer|pacing|icd|aicd|pacemaker|ventricular|atrial|single|dual|av"
    r"|sequential)[- ](?:chamber )?leads?|leads?(?= (?:in|tips?|terminat|overl|project|are|remain))"
    r"|iabp|balloon pump|impella|ecmo|lvad|(?:prosthetic|mechanical|artificial|bioprosthetic)"
    r" (?:\w+ )?valves?|valve (?:replacement|prosthes[ie]s)|valvular prosthes[ie]s|tavr|hardware"
    r"|(?:surgical |biliary |vascular |aortic |coronary |esophageal )?stents?"
    r"|(?:\w+ )?drains?|(?:support|medical|monitoring|assist|cardiac|implant\w*|stimulator|loop)"
    r" devices?|\w*stimulators?|(?:pulse |battery |cardiac )?generators?|(?<!breast )prosthes[ie]s"
    r"|closure devices?"
    r"|occluders?|internal fixation|(?:ekg|ecg|telemetry|monitor(?:ing)?) leads|loop recorder"
    r"|arthroplast\w+|(?:bone|orthopedic|pedicle|spinal"
    r"|fixation) (?:screws?|rods?|plates?)|intubat(?:ed|ion)|shunt(?: tubing| catheter)?"
    r"|indwelling line or tube|embolization coils?"
)

_TABLE: tuple[tuple[str, Labels], ...] = (
    # what looks like a mention and is none comes first
    (r"granulomatous (?:infection|disease)|cystic fibrosis|(?:thoracic|chest|pleural|abdominal"
     r"|peritoneal) cavit(?:y|ies)|mass effect|body mass|pericardial (?:effusion|fluid|fat)\w*"
     r"|joint effusions?", ()),
    (r"(?:subcutaneous|soft[- ]tissue|chest wall|body wall|peripheral|ankle|leg) (?:edema|mass\w*)"
     r"|(?:breast|mediastinal|thyroid|neck|abdominal|adrenal|soft tissue|renal|hepatic|liver"
     r"|axillary|paraspinal) (?:mass|masses|lesions?|nodules?)|thyroid nodul\w+", ()),
    (r"(?:bon[ey]|osseous|rib|lytic|blastic|sclerotic|vertebral|skeletal|destructive|osteolytic"
     r"|lucent|clavicular|humeral)(?: \w+)? (?:lesions?|mass|masses|metastas[ei]s|densit\w+"
     r"|opacit\w+)", ()),
    (r"(?:vertebral|compression|endplate)(?: body| bodies)? collapses?|collapse of (?:the )?"
     r"(?:[tl]\d+|vertebra\w*)", ("Fracture",)),
    (r"(?:contrast|barium|bowel|metallic|bone|bony|osseous|calcific) (?:opacit|densit)\w+"
     r"|metallic foreign", ()),
    (r"kerley[- ]?\w* (?:lines?|b)\b|septal (?:lines?|thickening)", ("Edema",)),
    # pleura
    (r"hydro-?pneumothora(?:x|ces)|hemo-?pneumothora(?:x|ces)",
     ("Pneumothorax", "Pleural Effusion")),
    (r"(?:pneumothora(?:x|ces|xes|cies)|ptx)\b|pleural air(?: collections?)?", ("Pneumothorax",)),
    (r"(?:pleural )?(?:effusions?|fluid collections?)|pleural fluid|h[ae]?emothora(?:x|ces)"
     r"|hydrothora(?:x|ces)|empyemas?|(?:fissural|subpulmonic|loculated) fluid"
     r"|fluid (?:\w+ ){0,3}fissures?", ("Pleural Effusion",)),
    (r"pleuro-?parenchymal (?:scar\w*|thickening|fibrosis|change\w*)"
     r"|pleural(?:[- ]based)?(?:/| and )parenchymal scar\w*", ("Pleural Other", "Lung Opacity")),
    (r"pleural(?:[- ](?:based|surface))?(?: \w+)? (?:thicken\w*|plaques?|scar\w*|calcif\w+"
     r"|fibros[ie]s"
     r"|mass|masses|nodul\w+|lesions?|abnormalit\w+|diseases?|reaction)|fibrothorax|(?:apical"
     r"|pleural) cap(?:ping|s)?"
     r"|pleural plaques?|thicken\w+ of the (?:\w+ )?pleura|mesotheliom\w+", ("Pleural Other",)),
    # lungs
    (r"atelecta\w+|(?:lobar|lung|segmental|lobe) collapses?|collapse of (?:the )?(?:\w+ ){0,3}"
     rf"{_LUNG}|collapsed (?:\w+ ){{0,2}}{_LUNG}|collapse/", ("Atelectasis",)),
    (r"consolidat\w+", ("Consolidation",)),
    (r"(?:broncho)?pneumonias?\b|pneumonic|(?:infectious|pneumonic) (?:process|infiltrat"
     r"|consolid)\w*"
     r"|infecti(?:on|ons|ous|ve)\b", ("Pneumonia",)),
    (r"edema(?:tous)?\b|(?:vascular |venous |pulmonary |hilar )*congesti(?:on"
     r"|ve)\b(?: heart failure"
     r"| changes?)?|congested|heart failure|chf\b|cardiac (?:failure|decompensation)"
     r"|(?:volume|fluid) overload|cephali[sz]ation|vascular (?:redistribution|engorgement)"
     r"|pulmonary venous hypertension|vascular prominence|prominen(?:t"
     r"|ce of(?: the)?)(?: (?:central"
     r"|pulmonary|hilar|lung))* vascula\w+|increased (?:pulmonary |lung )?vascular(?:ity)?"
     r"|vascula\w+ (?:is |are |appears? )?(?:(?!not\b|no\b)\w+ )?(?:prominent|indistinct|increased"
     r"|congested|engorged)"
     r"|indistinct(?:ness)?(?: of)?(?: the)?(?: \w+)? vascula\w+", ("Edema",)),
    (r"nodular (?:\w+ )?opaci\w+"
     r"|nodular (?:airspace )?infiltrat\w+", ("Lung Lesion", "Lung Opacity")),
    (r"(?:micro)?nodul(?:e|es|ar|arity)\b|mass(?:es)?\b|mass-?like|(?:pulmonary |lung |parenchymal "
     r"|cavitary |hilar |suspicious |focal )?lesions?|neoplas\w+|tumou?rs?\b|malignan(?:cy|cies|t)"
     r"|metast[ao]\w+|carcinomas?|cancer\b|cavit(?:y|ary|ation|ies)\b|lymphangitic",
     ("Lung Lesion",)),
    (r"(?:opacit(?:y|ies)|opacification\w*|opacified|opaque)\b|infiltrat(?:e|es|ion|ions|ive)\b"
     r"|(?:airspace|air-space|air space|alveolar|interstitial|parenchymal|reticular"
     r"|reticulonodular)"
     r"(?: lung| pulmonary)? (?:diseases?|process\w*|patterns?|thickening|prominence|changes?"
     r"|abnormalit\w+|fibros[ie]s|infiltrat\w+|scar\w*)"
     rf"|{_DENSE}(?: (?!nodul)\w+)? densit(?:y|ies)|densit(?:y|ies) (?:in|at|within|over\w*"
     rf"|project\w*) the"
     r" (?:\w+ ){0,4}(?:lung|lobe|base|lingula|apex)"
     r"|reticulation\w*|scar(?:s|ring|red)?\b|fibros[ie]s|fibrotic (?:\w+ )?changes?"
     r"|hazin?ess|airspace filling|silhouetting of"
     r"|(?:increased|prominent|prominence of(?: the)?|coarse\w*|accentuated|thickened|chronic"
     r"|diffuse|reticular)(?: \w+){0,2} (?:interstitial|lung|bronchovascular|reticular|parenchymal)"
     r" markings|(?:interstitial|bronchovascular|lung|parenchymal)(?: lung)? markings (?:are |is )?"
     r"(?:\w+ )?(?:increased|prominent|coarse\w*|accentuated|thickened)", ("Lung Opacity",)),
    # heart, mediastinum, bone, devices
    (r"cardiomegaly|(?:cardiac|heart|ventricular|biventricular|atrial|chamber) enlargement"
     r"|enlarge(?:ment of|d) (?:the )?(?:heart|cardiac)(?: (?:silhouette|size|shadow))?"
     r"|(?:large|prominent|globular) (?:heart|cardiac silhouette)", ("Cardiomegaly",)),
    (r"enlarge(?:ment of|d) (?:the )?cardio-?mediastin(?:al|um)(?: silhouette| contours?)?",
     ("Cardiomegaly", "Enlarged Cardiomediastinum")),
    (r"(?:superior |upper )?mediastinal (?:widening|enlargement|prominence)"
     r"|(?:widening|enlargement|prominence) of the (?:\w+ )?mediastinum"
     r"|(?:widened|enlarged|wide|prominent) (?:superior |upper )?mediastin(?:um|al)"
     r"(?: (?:silhouette|contours?))?", ("Enlarged Cardiomediastinum",)),
    (r"fractur\w*|fx\b|compression deformit(?:y|ies)", ("Fracture",)),
    (_DEVICES, ("Support Devices",)),
)  # fmt: skip

PATTERN = "|".join(rf"(?P<m{n}>(?:{pattern})(?!\w))" for n, (pattern, _) in enumerate(_TABLE))
"""One group a row; to be put behind a word boundary."""
LABELS: dict[str, Labels] = {f"m{n}": labels for n, (_, labels) in enumerate(_TABLE)}
"""Group name of :data:`PATTERN` to the findings that it mentions; none for a decoy."""
