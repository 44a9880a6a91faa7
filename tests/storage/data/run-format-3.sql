BEGIN TRANSACTION;
CREATE TABLE attempts (
    sample TEXT NOT NULL REFERENCES samples (id), number INTEGER NOT NULL, answer TEXT, times INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    PRIMARY KEY (sample, number)) WITHOUT ROWID;
CREATE TABLE dev_items (
    iteration INTEGER NOT NULL, place INTEGER NOT NULL,
    sample TEXT REFERENCES samples (id),              -- NULL for a real item
    input TEXT NOT NULL, label TEXT NOT NULL,
    PRIMARY KEY (iteration, place));
INSERT INTO "dev_items" VALUES(1,1,NULL,'real','a');
INSERT INTO "dev_items" VALUES(1,2,'1-1h','q','a');
CREATE TABLE evaluations (
    model TEXT NOT NULL, item INTEGER NOT NULL REFERENCES items (number), output TEXT NOT NULL, answer TEXT,
    correct INTEGER NOT NULL,
    PRIMARY KEY (model, item)) WITHOUT ROWID
;
INSERT INTO "evaluations" VALUES('base',1,'x','b',1);
CREATE TABLE events (at REAL NOT NULL, level TEXT NOT NULL, text TEXT NOT NULL, topic TEXT);
CREATE TABLE greedy_attempts (
    sample TEXT PRIMARY KEY REFERENCES samples (id), output TEXT NOT NULL, answer TEXT, solved INTEGER NOT NULL);
CREATE TABLE items (number INTEGER PRIMARY KEY, input TEXT NOT NULL, label TEXT NOT NULL);
INSERT INTO "items" VALUES(0,'i0','a');
INSERT INTO "items" VALUES(1,'i1','b');
CREATE TABLE keywords (
    iteration INTEGER NOT NULL, domain TEXT NOT NULL, number INTEGER NOT NULL, keyword TEXT NOT NULL,
    PRIMARY KEY (iteration, domain, number));
INSERT INTO "keywords" VALUES(1,'surgery',0,'surgery');
INSERT INTO "keywords" VALUES(1,'surgery',1,'knife');
INSERT INTO "keywords" VALUES(1,'medicine',0,'medicine');
CREATE TABLE passages (
    iteration INTEGER NOT NULL, domain TEXT NOT NULL, number INTEGER NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (iteration, domain, number));
INSERT INTO "passages" VALUES(1,'surgery',0,'p2','','t2');
INSERT INTO "passages" VALUES(1,'surgery',1,'p1','T','t1');
CREATE TABLE patterns (iteration INTEGER PRIMARY KEY, text TEXT NOT NULL);
INSERT INTO "patterns" VALUES(1,'short');
CREATE TABLE rewards (
    sample TEXT NOT NULL REFERENCES samples (id), step INTEGER NOT NULL, reward REAL NOT NULL,
    PRIMARY KEY (sample, step)) WITHOUT ROWID
;
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "run" VALUES('id','16ce8ad2092f40f1bdab9b1b77d533f5');
INSERT INTO "run" VALUES('created','1795931779.97712');
INSERT INTO "run" VALUES('sittings','1');
CREATE TABLE samples (
    id TEXT PRIMARY KEY, iteration INTEGER NOT NULL, slot INTEGER NOT NULL, kind TEXT NOT NULL, input TEXT NOT NULL,
    output TEXT NOT NULL, dropped TEXT, parent TEXT REFERENCES samples (id), passage TEXT);
INSERT INTO "samples" VALUES('1-0',1,0,'initial','q','o',NULL,NULL,'p1');
INSERT INTO "samples" VALUES('1-1',1,1,'initial','q','o',NULL,NULL,NULL);
INSERT INTO "samples" VALUES('1-2',1,2,'initial','q','o',NULL,NULL,NULL);
INSERT INTO "samples" VALUES('1-1h',1,1,'harder','q','o',NULL,'1-1',NULL);
INSERT INTO "samples" VALUES('2-0',2,0,'initial','q','o',NULL,NULL,NULL);
CREATE TABLE scores (
    sample TEXT PRIMARY KEY REFERENCES samples (id), attempts INTEGER NOT NULL, passed INTEGER NOT NULL,
    score REAL NOT NULL);
CREATE TABLE seconds (stage TEXT NOT NULL, sitting INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (stage, sitting)) WITHOUT ROWID;
CREATE TABLE selected (
    iteration INTEGER NOT NULL, place INTEGER NOT NULL, sample TEXT NOT NULL REFERENCES samples (id),
    PRIMARY KEY (iteration, place));
INSERT INTO "selected" VALUES(1,1,'1-1');
CREATE TABLE stages (
    iteration INTEGER NOT NULL,                       -- 0 is the whole run
    stage TEXT NOT NULL, state TEXT NOT NULL,
    basis TEXT,                                       -- what the result depends on (Stages.get_basis)
    unpaid INTEGER NOT NULL DEFAULT 0,                -- rows that the budget did not pay for
    PRIMARY KEY (iteration, stage)) WITHOUT ROWID
;
INSERT INTO "stages" VALUES(0,'evaluated','started',NULL,0);
INSERT INTO "stages" VALUES(1,'adapted','started',NULL,0);
INSERT INTO "stages" VALUES(1,'initial','started',NULL,0);
INSERT INTO "stages" VALUES(1,'keywords','finished',NULL,0);
INSERT INTO "stages" VALUES(1,'passages','finished',NULL,0);
INSERT INTO "stages" VALUES(1,'pattern','finished',NULL,0);
INSERT INTO "stages" VALUES(1,'selected','finished','1',0);
INSERT INTO "stages" VALUES(1,'verified','started',NULL,0);
INSERT INTO "stages" VALUES(2,'initial','started',NULL,0);
CREATE TABLE verdicts (sample TEXT PRIMARY KEY REFERENCES samples (id), label TEXT, dropped TEXT);
INSERT INTO "verdicts" VALUES('1-1','a',NULL);
CREATE TABLE votes (
    sample TEXT NOT NULL REFERENCES samples (id), number INTEGER NOT NULL, answer TEXT,
    PRIMARY KEY (sample, number)) WITHOUT ROWID       -- number 0 is the sample's own; NULL is unreadable
;
INSERT INTO "votes" VALUES('1-1',0,'a');
CREATE INDEX samples_by_slot ON samples (iteration, slot);
COMMIT;
PRAGMA user_version=3;
