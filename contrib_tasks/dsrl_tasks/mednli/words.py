"""The word lists of the procedural MedNLI language: three disjoint vocabularies, one for each use.

``GENERATOR`` is what ``procedural.write`` draws from. ``DEV`` and ``TEST`` belong to the held-out splits alone: the
generator never uses one of their terms, not even when a passage mentions it.
"""

from __future__ import annotations

from typing import NamedTuple


class Vocabulary(NamedTuple):
    """The terms of one split, by the kind of fact that is said about them."""

    findings: tuple[str, ...]  # present or absent
    drugs: tuple[str, ...]  # taken or stopped
    sites: tuple[str, ...]  # left or right
    measures: tuple[str, ...]  # a number, above or below another


def _policy(text: str) -> tuple[str, ...]:
    return tuple(term.strip() for term in text.split(","))


GENERATOR = Vocabulary(
    findings=_policy(
        "fever, cough, rash, nausea, vomiting, diarrhea, headache, dizziness, fatigue, chills, edema, jaundice, anemia, "
        "asthma, diabetes, hypertension, pneumonia, sepsis, stroke, angina, gout, arthritis, cancer, hepatitis, "
        "cirrhosis, bronchitis, migraine, depression, anxiety, insomnia, obesity, glaucoma, eczema, constipation, "
        "bleeding, tremor, weakness, numbness, ulcers, allergies, infection, inflammation, swelling, itching, "
        "dehydration, fainting, chest pain, back pain, sore throat, weight loss, heart failure, blood clots, "
        "night sweats, blurred vision"
    ),
    drugs=_policy(
        "aspirin, heparin, warfarin, insulin, metformin, ibuprofen, morphine, codeine, statins, lithium, steroids, "
        "antibiotics, penicillin, iron pills, diuretics, digoxin"
    ),
    sites=_policy("knee, shoulder, hip, ankle, wrist, elbow, foot, ear, lung, kidney"),
    measures=_policy("heart rate, blood sugar, body weight, sodium level, platelet count, protein level"),
)

DEV = Vocabulary(
    findings=_policy(
        "wheezing, malaria, measles, psoriasis, epilepsy, hernia, acne, cataract, tinnitus, cramps, hoarseness, scurvy, "
        "tonsillitis, colic, vertigo, neck pain, palpitations, tuberculosis, mumps, dementia, lupus, sinusitis, hives, "
        "cholera, hiccups, drowsiness, bruising, shingles, rickets, stiffness, thirst, tooth pain, confusion, leprosy"
    ),
    drugs=_policy(
        "naproxen, quinine, thyroxine, laxatives, vitamins, tramadol, lidocaine, estrogen, antacids, sedatives"
    ),
    sites=_policy("leg, hand, eye, arm, thumb, heel, lobe"),
    measures=_policy("pulse rate, calcium level, zinc level, breathing rate, potassium level, cholesterol level"),
)

TEST = Vocabulary(
    findings=_policy(
        "pleurisy, tetanus, croup, shivering, goiter, rabies, scabies, botulism, blisters, phlebitis, neuritis, deafness, "
        "snoring, sweating, jaw pain, memory loss, sciatica, scarring"
    ),
    drugs=_policy("fentanyl, prednisone, atropine, ketamine, probiotics"),
    sites=_policy("toe, calf, cheek, temple"),
    measures=_policy("oxygen level, iron level, pupil size"),
)
