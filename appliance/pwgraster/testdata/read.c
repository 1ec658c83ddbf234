// Reads a raster document with libcups, as CUPS's own filters do, and writes each page as a line of its header's values
// followed by its pixels.
#include <cups/raster.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
  cups_raster_t *r = cupsRasterOpen(0, CUPS_RASTER_READ);
  cups_page_header2_t h;
  if (!r) {
    fprintf(stderr, "open: %s\n", cupsRasterErrorString());
    return 1;
  }
  while (cupsRasterReadHeader2(r, &h)) {
    printf("%ux%u %ux%u dpi bits %u/%u space %d colors %u stride %u order %d points %ux%u name \"%s\" pages %u duplex %d tumble %d\n",
           h.cupsWidth, h.cupsHeight, h.HWResolution[0], h.HWResolution[1], h.cupsBitsPerColor, h.cupsBitsPerPixel,
           h.cupsColorSpace, h.cupsNumColors, h.cupsBytesPerLine, h.cupsColorOrder, h.PageSize[0], h.PageSize[1],
           h.cupsPageSizeName, h.cupsInteger[CUPS_RASTER_PWG_TotalPageCount], h.Duplex, h.Tumble);
    unsigned char *line = malloc(h.cupsBytesPerLine);
    for (unsigned y = 0; y < h.cupsHeight; y++) {
      if (cupsRasterReadPixels(r, line, h.cupsBytesPerLine) != h.cupsBytesPerLine) {
        fprintf(stderr, "line %u: %s\n", y, cupsRasterErrorString());
        return 1;
      }
      fwrite(line, 1, h.cupsBytesPerLine, stdout);
    }
    free(line);
  }
  cupsRasterClose(r);
  return fflush(stdout) ? 1 : 0;
}
