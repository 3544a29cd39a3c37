"""Words that are names of people and, in reports, almost always something else.

Drawn up by hand from the words of 3,955 open radiology reports that are also on the United States
census list of names, with eponyms and short English words added. A name on this list is replaced
only where the rest of the name or a title stands beside it; every other name wherever it stands.
Names that a report uses as a name (King, Baker, Jones) are left out on purpose. Radiology's own
vocabulary, which stands in name fields where a department does, belongs to them.
"""

from arra_med.datasets.privacy.radiology_words import RADIOLOGY

EVERYDAY = RADIOLOGY | frozenset(
    """
    ace ache ada age all anchor anchors and any app are area areas arm arms arrow art back bad bare
    base bed bee been bell below best better bile bill black blood blue body bone bones border
    borders both box brain breath bright broad brown bulla burn burns but cage camera can cancer
    cap care carina case cast cavity center chamber chance change chase cheek chest child chin
    clear clinic clip clips code coil cold colon comment common cord core cough course cover credit
    cross crush cup cyst dade daily day days dea dear deep degree dense department devices
    digital disc dish doctor doi dome dose down drain drew dry due during ear early east edge effect
    eight else end even ever exam eye eyes face fae fair fall falling far fat feeling few field
    fields file film final fine first five flank flat flow foot form found fourth free from full
    general given glass gold good grade graft grave gray great green grey gross ground guide had
    half hand hands hard has hazy head heart heavy height her here high hill hilar hilum him his
    hold home hook hope hospital hue human husband ill image images imaging iris iron its joint
    just kidney knee knot lab lag lamina large larger last lat late later lateral lead leads left
    less level levels life light like limb line lines link lip lipoma little live liver living lobe
    lobes loop long look loss low lower lumen lung lungs macula main major male man many march mark
    marked marking marks marrow mask mass massive may mean medial medicine medical mesh mild miles
    min minor miss mode moderate month more most much nail name narrow near neck needs nerve new
    night nine nipple nodal node none normal north nose now null number old one onset open operator
    optic order organ orange other our out over overall overlie own pace pacer pack pain pale pall
    part past pat patch patient peg phantom pin pink pipe place plain plate pleura plus pod pole
    pool poor port post posterior precise present price prior pulse purple quick quite radial rain
    range rate raw ray reader record red reddish rem rest retina reveal rib rich right rim ring
    rise risk rod room root rose rough round routine rule run sac safe same sand scar scope screw
    seal second section see seen sent series service set setting seven severe shadow shape sharp
    she shell shield shift shock short shot should shoulder show shown shows shunt sick side sign
    silver single site situ six skin slight slim small smaller smoker snow soft solid some soon
    south space spine spot spots spring stable staff stage star start state states stay stem stent
    step still stone stones strand strange street strong strut study sub such sum summer sun
    surface sure sweet swimmer swift system table tech technologist temple ten tender test than the
    then thick thin third three thumb tight time times tiny tip today tones too top total town
    tract train tree true try tube twin two type unavailable under unit upper user vein ventral
    vertex very vessel vessels via view views vital volume wake walking walks wall want ward wards
    warm was water wave way web wedge week weeks weight well wells west white wide will winter wire
    wires with wood work worker worst worth wound wrist year years yellow yes you young zone
    april august december february january july june november october september
    monday tuesday wednesday thursday friday saturday sunday
    best bochdalek bruch coats crohn dobhoff drusen eales foley ganz ghon hickman hodgkin kerley
    leber marfan morgagni pancoast port roth scheuermann schmorl stargardt swan vogt westermark
    adult admin anterior doctor faint female film interior lateral mammogram nurse pediatric
    balloon vena cava serum tobacco kub portable prof radiology resident student supine
    technician team upright xray
    """.split()  # noqa: SIM905 - a list of words
)

PARTICLES = frozenset(
    """
    van von der den de del della di da dos das du la le el al bin ibn abu ben zu zum zur ter ten te
    af av y e san st ste mac mc o d l s
    """.split()  # noqa: SIM905 - a list of words
)
"""Small words inside family names, which identify nobody on their own."""

TITLES = frozenset(
    """
    mr mrs ms miss mister madam dr doctor prof professor herr frau fraulein mme mlle monsieur
    madame senor senora sr sra srta dott sig signora pt
    """.split()  # noqa: SIM905 - a list of words
)
"""What stands before a name."""

SUFFIXES = frozenset("jr sr ii iii iv md do phd dds rn rt mbbs frcr facr msc bsc dipl med".split())  # noqa: SIM905
"""What stands in a name field and is no name."""

PLACEHOLDERS = frozenset(
    """
    anon anonym anonymous anonymized anonymised anonymise anonymize unknown none null na nn noname
    unnamed unidentified deidentified removed redacted hidden withheld xxx xxxx xxxxx test dummy
    phantom patient subject male female no name not available notavailable given default nobody
    """.split()  # noqa: SIM905 - a list of words
)
"""Words that stand in a name or id field when the person's own has been taken out."""
