"""The word lists of the procedural MedNLI language: three vocabularies that share no term.

``procedural.write`` uses the terms of ``GENERATOR``. ``DEV`` and ``TEST`` are for the held-out splits only: the generator
never uses one of their terms, even if a passage mentions it.
"""

from __future__ import annotations

from typing import NamedTuple


class Vocabulary(NamedTuple):
    """The terms of one split, by the kind of fact that a sentence states about them."""

    findings: tuple[str, ...]  # present or absent
    drugs: tuple[str, ...]  # taken or stopped
    sites: tuple[str, ...]  # left or right
    measures: tuple[str, ...]  # a number, above or below another


def _split_terms(text: str) -> tuple[str, ...]:
    return tuple(term.strip() for term in text.split(","))


GENERATOR = Vocabulary(
    findings=_split_terms(
        "fever, cough, rash, nausea, vomiting, diarrhea, headache, dizziness, fatigue, chills, edema, jaundice, anemia, "
        "asthma, diabetes, hypertension, pneumonia, sepsis, stroke, angina, gout, arthritis, cancer, hepatitis, "
        "cirrhosis, bronchitis, migraine, depression, anxiety, insomnia, obesity, glaucoma, eczema, constipation, "
        "bleeding, tremor, weakness, numbness, ulcers, allergies, infection, inflammation, swelling, itching, "
        "dehydration, fainting, chest pain, back pain, sore throat, weight loss, heart failure, blood clots, "
        "night sweats, blurred vision"
    ),
    drugs=_split_terms(
        "aspirin, heparin, warfarin, insulin, metformin, ibuprofen, morphine, codeine, statins, lithium, steroids, "
        "antibiotics, penicillin, iron pills, diuretics, digoxin"
    ),
    sites=_split_terms("knee, shoulder, hip, ankle, wrist, elbow, foot, ear, lung, kidney"),
    measures=_split_terms("heart rate, blood sugar, body weight, sodium level, platelet count, protein level"),
)

DEV = Vocabulary(
    findings=_split_terms(
        "wheezing, malaria, measles, psoriasis, epilepsy, hernia, acne, cataract, tinnitus, cramps, hoarseness, scurvy, "
        "tonsillitis, colic, vertigo, neck pain, palpitations, tuberculosis, mumps, dementia, lupus, sinusitis, hives, "
        "cholera, hiccups, drowsiness, bruising, shingles, rickets, stiffness, thirst, tooth pain, confusion, leprosy"
    ),
    drugs=_split_terms(
        "naproxen, quinine, thyroxine, laxatives, vitamins, tramadol, lidocaine, estrogen, antacids, sedatives"
    ),
    sites=_split_terms("leg, hand, eye, arm, thumb, heel, lobe"),
    measures=_split_terms("pulse rate, calcium level, zinc level, breathing rate, potassium level, cholesterol level"),
)

TEST = Vocabulary(
    findings=_split_terms(
        "pleurisy, tetanus, croup, shivering, goiter, rabies, scabies, botulism, blisters, phlebitis, neuritis, deafness, "
        "snoring, sweating, jaw pain, memory loss, sciatica, scarring"
    ),
    drugs=_split_terms("fentanyl, prednisone, atropine, ketamine, probiotics"),
    sites=_split_terms("toe, calf, cheek, temple"),
    measures=_split_terms("oxygen level, iron level, pupil size"),
)
