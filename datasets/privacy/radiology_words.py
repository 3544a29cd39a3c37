"""Radiology's vocabulary: words that name a department, an organ or a finding, and seldom a person.

Fields for persons often hold a department (``CARDIAC SURGERY``). The words are those that stand in
four or more of 3,955 open radiology reports and are not on the list of everyday words, with
anatomy, findings, devices and specialties added by hand (departments also in German, French,
Spanish and Italian).
"""

RADIOLOGY = frozenset(
    """
    abdomen abdominal abnormal abnormalities abnormality about above absence absent abteilung
    abuse accentuated accessory accident achalasia acromioclavicular acromion active acute
    addition additional additionally adenopathy adjacent adrenal adrenals advanced aerated
    aeration after again agenesis ago aicd air airspace airspaces airway airways alignment
    allergic allowing along also altered alternatively although alveolar alveoli ambulanz
    ambulatory amount amputation anaesthesia anaesthesie anaesthesiologie anaesthesiology
    anaesthetics anasarca anasthesie anasthesiologie anatomy anemia anesthesia anesthesiology
    anesthetics aneurysm aneurysmal aneurysms angiogram angiographic angiography ankle ankles
    another anterolateral anticipated aorta aortic apex apical apices apparent appear appearance
    appearing appears appendix appreciated appropriate approximately approximating around
    arterial arteries artery arthritic arthritis arthroplasty artifact asbestosis ascending
    aspect aspergilloma aspiration asplenia assault assess assessment associated asthma
    asymmetric atelectases atelectasis atelectatic atheroma atherosclerosis atherosclerotic
    atria atrial atrium attenuation atypical audiology available axilla axillae axillary azygos
    azygous background bandlike bariatric bariatrics barium barotrauma basal based bases basilar
    before behind benign between biapical bibasal bibasilar bilateral bilaterally biopsy
    biventricular bladder bleb blebs bleed bleeding blot blunted blunting bodies bony borderline
    bowel bowels brachiocephalic breast breasts breathing bridging broken bronchi bronchial
    bronchiectasis bronchiolitis bronchitis bronchopneumonia bronchovascular bronchus bulge
    bullae bullet bullous bypass cabg cachexia cadaveric calcific calcification calcifications
    calcified calcinosis caliber callus calvarium cannot carcinoma carcinomatosis cardia cardiac
    cardiaque cardio cardiogenic cardiologia cardiologie cardiologist cardiologists cardiology
    cardiomediastinal cardiomediastinum cardiomegaly cardiomyopathy cardiophrenic
    cardiopulmonary cardiothoracic cardiovascular cardioverter carotid cartilage cartilages
    casualty cataract catheter catheters causing caval cavitary cavitation cavitations cavities
    cecum cell central centrally cephalization cerebral cervical cervix changes characteristic
    characterization characterized chemotherapy chf childrens chills chirurgia chirurgie
    cholecystectomy choroid choroidal chronic cigarette cirrhosis cirugia clavicle clavicles
    clavicular clearing clinical clinically clinician clinics clinique closure clots coarse
    coarsened coccyx coeur coils collapse collection collections collision colonic colostomy
    combination comminuted compared comparison comparisons compartment compatible complaining
    complains complaints complete completely complication compression compressive concern
    concerning conclusion conclusions configuration confirm confluent confusion congenital
    congested congestion congestive consider consideration considerations considered considering
    consistent consists consolidate consolidating consolidation consolidations consolidative
    conspicuous consulta consultant consultants consultation continued contour contours
    contralateral contrast contusion convexity convincing copd cornea corneal coronary correlate
    correlation corresponding cortex cortical costal costochondral costophrenic coughing could
    courses crackles cranial critical crowding cuffing cuore cupping currently curvature
    curvilinear cxr cystic dated decrease decreased decreasing decubitus dedicated defibrillator
    defined definite deformed deformities deformity degenerative dehiscence dementia
    demineralization demonstrate demonstrated demonstrates densities density dental dentistry
    depression dermatologie dermatology descending described desired destruction destructive
    determine developed developing development deviation device dextro dextrocurvature
    dextroscoliosis diabetes diabetic diabetology diagnosis diagnostic diagnostics dialysis
    diameter diaphragm diaphragmatic diaphragms diaphyseal diarrhea dietetics differences
    differential difficult difficulty diffuse diffusely dilated diminished discoid discrete
    discussed disease disks dislocation dislocations displaced displacement dissection distal
    distended distention distribution diverticulum division dizziness document documented does
    drainage drains dual duct ductus duodenum dysplasia dyspnea each earlier echo ecmo ectasia
    ectatic edema effaced effacement effusion effusions elbow elbows electrode electrodes
    electronic elements elevated elevation elongation emboli embolism embolization embolus
    emergency emphysema emphysematous empyema encephalopathy endobronchial endocarditis
    endocrine endocrinology endoscopy endotracheal endplate endplates engorged engorgement
    enhanced enlarged enlargement enlarging ensure ent enteral enteric entirely epicardial
    epidural epigastric epiglottis episode erect erguss erosion erosions esophageal esophagus
    etiology etoh ett evaluate evaluated evaluation eventration evidence evident exacerbation
    exaggerated examination examinations exams excavation excavatum exclude excluded exertion
    expanded expansile expected expiratory exposure extensive external extrapleural
    extrathoracic extremity extubated extubation exudate exudates facility factors failure
    fatigue favored features feeding feet femoral femur femurs fetal fibrillation fibroid
    fibronodular fibrosis fibrothorax fibrotic fibula fifth filled films finding findings
    fissural fissure fissures fixation flail flattened flattening flowing fluid fluoroscopy
    flutter focal foci focus follow followed following followup for forearm foreign formation
    fovea foveal fracture fractured fractures fragment frontal fullness fundal fundus further
    fused fusion gallbladder gallstones ganglion gangrene gastric gastroenterology
    gastroesophageal gastrostomy generalized generator genetics geriatric geriatrics gland
    glands glaucoma glaucomatous glenohumeral glenoid glottis goiter grafting grafts granuloma
    granulomas granulomata granulomatosis granulomatous greater greatest grossly gunshot
    gynaecology gynaekologie gynakologie gynecology habitus haematology hallux hamartoma
    hardware have having haziness headache healed healing heel helpful hematology hematoma
    hemidiaphragm hemidiaphragmatic hemidiaphragms hemiparesis hemithoraces hemithorax
    hemodialysis hemopericardium hemopneumothorax hemoptysis hemorrhage hemorrhages hemorrhagic
    hemothorax hepatic hepatitis hepatology hepatomegaly hernia hernias herniation herz
    herzchirurgie hiatal hiatus hila hip hips histoplasmosis history hiv hopital hospitalist
    hospitalizacion hospitals hours how however htn humeral humeri humerus hydropneumothorax
    hydrothorax hyoid hyperaeration hyperexpanded hyperexpansion hyperinflated hyperinflation
    hyperlucencies hyperlucency hyperlucent hypertension hypoinflated hypoinflation
    hypoventilation hypoxia iabp icd icu identified idiopathic ileum ileus iliac ilium
    immunology impella implant implantation implants impression improved improvement incidental
    incidentally include included includes including incompletely increase increased increasing
    indeterminate indicate indicated indication indistinct infarct infarction infarcts infection
    infections infectious inferior inferiorly infiltrate infiltrates infiltration infiltrative
    infirmary inflammation inflammatory inflated infraclavicular infradiaphragmatic infrahilar
    infusion inguinal injuries injury innere innominate inpatient inpatients insertion
    inspiration inspiratory instrumentation intact intensive intensivist intensivstation
    intercostal interlobar interlobular intermittent internal interspace interstitial
    interstitium interval interventional intestinal intestine into intracardiac intracranial
    intraperitoneal intrapulmonary intraretinal intrathoracic intravenous intubated intubation
    involving irregular irregularities irregularity ischemia ischemic isthmus jaw jejunostomy
    jejunum joints jugular junction kardiologie kinderklinik klinik knees known kyphosis
    kyphotic label laboratory laminectomy laparotomy largest laryngeal larynx layering least leg
    lens lesion lesions leukemia leukocytosis levocurvature levoscoliosis ligament ligaments
    lightheadedness likely limited limits lingula lingular lipid lobar lobectomies lobectomy
    localized located location loculated loculation loculations longer loops lordotic lucencies
    lucency lucent lumbar lumbosacral lunge lungen lvad lymph lymphadenopathy lymphangitic
    lymphatic lymphocele lymphoma lytic macular maintained malignancies malignancy malignant
    malleolus malposition malpositioned mandible mandibular manubrium margin marginal
    margination markedly markers markings masses masslike mastectomy material maternity maxilla
    maxillary measures measuring meatus medecine mediastinal mediastinum medication medicina
    mediport medizin melanoma melanomas meninges meniscus mens mental mesenteric mesothelioma
    metacarpal metallic metaphysis metastases metastasis metastatic metatarsal microaneurysms
    microbiology micronodular micronodules mid midabdomen middle midline midlung midsternal
    midthoracic midwifery mildly miliary minimal minimally mitral moderately monitor months
    motion mucus multifocal multilevel multilobar multiple muscle muscles muscular mva mvc
    myeloid myeloma myelopathy myocardial myocardium myositis narrowing nasal nasogastric
    nasopharynx nausea necrosis necrotic negative neither neonatal neonatology neoplasm
    neoplasms neoplastic neovascularization nephrologie nephrology nerves neumologia neural
    neuro neurochirurgie neurologia neurological neurologie neurology neuroradiology
    neurosurgery nicu nodular nodularity nodule nodules non noncalcified nondisplaced
    nonproductive nonsmoker nonspecific normally not notaufnahme note noted nothing notification
    notified nuclear numbness numerous nurses nursing nutrition obesity oblique obscuration
    obscure obscured obscures obstetrics obstruction obstructive obtained obvious occasional
    occipital occluder occlusion occupational ocular oedema oesophagus oligemia oncologia
    oncologie oncologist oncology onkologie only opacification opacified opacities opacity
    opaque ophthalmology optometry orbit orbital orbits ordering orogastric oropharynx
    orthopadie orthopaedic orthopaedics orthopaedie orthopedic orthopedics orthotics ospedale
    osseous osteoarthritis osteolytic osteomyelitis osteopenia osteopenic osteophyte osteophytes
    osteophytic osteoporosis osteotomy otherwise otolaryngology outpatient outpatients outside
    ovarian ovary overlap overlapping overlies overload overlying overt oxygen pacemaker pacers
    pacing padiatrie pads paediatric paediatrics paediatrie palate palliative palpitations palsy
    pancreas pancreatic papilla papilledema parahilar paralysis paralyzed parapneumonic
    paraspinal parathyroid paratracheal paravertebral parenchyma parenchymal parietal partial
    partially particularly passed patchy patella patellar pathologic pathologist pathology
    pattern pectus pediatria pediatrics pediatrie pedicle peduncle pelvis penile perforation
    performed perhaps peribronchial peribronchovascular pericardial pericarditis pericardium
    perihilar perineum perioperative peripheral periphery peritoneal peritoneum persistent
    petechiae phalanges phalanx pharmacy pharynx phlebitis phlebotomy phrenic physical physician
    physicians physiology physiotherapy picc picu pigtail placed placement planta plaque plaques
    plasma platelike plates please pleurae pleural pleurisy pleuritic pleurodesis pleurx
    pneumatocele pneumoconiosis pneumologia pneumologie pneumomediastinum pneumonectomy
    pneumonia pneumonias pneumonic pneumonitis pneumopericardium pneumoperitoneum pneumothoraces
    pneumothorax podiatry poliklinik polmone polyp polyps popliteal portacath portion portions
    position positional positioning positive possibility possible possibly posteriorly
    posteroanterior posterolateral postop postoperative poststernotomy postsurgical
    posttraumatic poumon poumons ppd practitioner praxis pre predominantly pregnancy pregnant
    preop preoperative preprocedure presence presents pressure previous previously primary
    primordial probable probably probe procedure process productive progression projected
    projecting projection projects prolapse proliferative prominence prominent pronto prostate
    prostheses prosthesis prosthetic proximal pseudoaneurysm pseudotumor psychiatric psychiatry
    pulmon pulmonaire pulmonar pulmonary pulmonic pulmonologist pulmonology pump punctate pupil
    pylorus quadrant quality question questionable radiating radiation radii radiodense
    radiodensity radiograph radiographer radiographers radiographic radiographically radiographs
    radiography radiologia radiologic radiological radiologie radiologists radiolucent
    radiopaque radiotherapy radius raise rales reaction reactive reanimation receipt recent
    recess recommend recommended recovery rectal recurrence recurrent redemonstrated
    redemonstration reexpansion referral reflect reflecting reflects reflux region regions
    registrar rehab rehabilitation related relative relatively remain remainder remaining
    remains remarkable remote removal removed renal repair repeat replacement report reported
    represent representing represents resection residual residuals resolution resolved resolving
    respiratory result results resus resuscitation reticular reticulation reticulonodular
    retinal retinopathy retraction retrocardiac retrolisthesis retrosternal reveals review
    rheumatology ribs rightward rods roentgen rontgen rotated rotation rotations rotator rounded
    rupture ruptured saccular sacral sacroiliac sacrum sarcoid sarcoidosis sarcoma saturation
    scan scanning scaphoid scapula scapular scarring scattered scheduled sclera sclerosis
    sclerotherapy sclerotic scoliosis scoliotic screening screws scrotum secondary segment
    seizure senescent septal septic septum sequela sequelae servicio sesamoid several shadowing
    shadows shaped shielded shortness shoulders shunts sicu sided significant significantly
    silhouette silhouettes silicosis similar since sinus sinuses size sized skeletal skull
    slightly smoking sob somewhat sonography sore sounds spaces specialist specialists
    specifically sphincter spinal spines spleen splenectomy splenic splenomegaly
    spondylolisthesis spondylosis sports spurring spurs sputum stab stability staples started
    starting station status stenoses stenosis stents stepdown sternal sternoclavicular
    sternotomies sternotomy sternum stimulator stomach stool strahlentherapie streaky strictures
    stripe stroke structure structures studies subarachnoid subcarinal subchondral subclavian
    subcutaneous subdiaphragmatic subdural subglottic subluxation subphrenic subpleural
    subpulmonic subsegmental substernal subtle suction suggest suggested suggesting suggestion
    suggestive suggests sulci sulcus superimposed superior superolateral support supports
    supraclavicular suprahilar suprarenal surgeon surgeons surgeries surgery surgical suspected
    suspicion suspicious suture sutures svc sweats symmetric symptoms syncopal syncope
    syndesmophytes syndrome synovial tachycardia tachypnea tamponade tarsal tavr technical
    technically technique telemetry telephone temporal tenderness tendon tendons tenting
    terminates terminating testes testicular testis that theatre their them therapies therapy
    there these they thickening this thoracentesis thoracic thoracique thoracolumbar
    thoracoplasty thoracostomy thoracotomy thorax thoraxchirurgie those though throat thrombi
    thrombosis thrombus through throughout thymic thymoma thymus thyroid tibia tibial tightness
    tingling tips tissue tissues tomography tongue tonsil torace toracica torax torso tortuosity
    tortuous trachea tracheal tracheomalacia tracheostomies tracheostomy transected transplant
    transplantation transudate transverse trapping trauma traumatic traumatologia treatment
    triage truncus trunk tubal tubercle tuberculosis tuberculous tubes tubing tubular tumor
    tumors tumour tumours tunneled typical ulcer ulcers ulna ulnar ultrasonography ultrasound
    umbilical unable uncertain unchanged unclear underlying unfallchirurgie unfolded unfolding
    unfused unlikely unremarkable ureter ureteral urethra urgences urgencias urgent urinary
    urologia urologic urologie urology use useful uterus uvea vague vagus valve valves valvular
    varices varix vascular vascularity vasculature vasculatures vasculitis vehicle venereology
    venous ventilation ventilator ventricle ventricles ventricular versus vertebra vertebrae
    vertebral vertebroplasty viral visceral visible visualized vitreous volumes volvulus
    vomiting walls warranted weakness wedging wellness were what wheeze wheezing where whether
    which while who whose why widened widening width wirbelsaule within without woman womens
    workup worse worsening would wounds xiphoid yesterday your zentrum zones
    """.split()  # noqa: SIM905 - a list of words
)
