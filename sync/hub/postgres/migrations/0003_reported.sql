-- When the stored report was received, by the hub's clock; drift is of then.
ALTER TABLE box ADD COLUMN reported timestamptz;
