-- When the stored report was received, by the hub's clock, and how far the box's clock was off then.
ALTER TABLE box ADD COLUMN reported TEXT NOT NULL DEFAULT '';
ALTER TABLE box ADD COLUMN drift INTEGER NOT NULL DEFAULT 0; -- milliseconds: its clock minus the hub's
