package escpos

import (
	"context"
	"io"

	"sportello.example/kiosk"
)

// Encode, Wrap and OpenDevice are the functions of those names.
var (
	Encode     = encode
	Wrap       = wrap
	OpenDevice = openDevice
)

// StatusOn and PrintOn are Status and Print on what open opens.
func StatusOn(ctx context.Context, open func(context.Context) (io.ReadWriteCloser, error)) (kiosk.Trouble, error) {
	return statusOn(ctx, open)
}

func PrintOn(ctx context.Context, open func(context.Context) (io.ReadWriteCloser, error), b []byte) error {
	return Printer{}.printOn(ctx, open, b)
}
