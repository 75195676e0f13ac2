// How many threads the kernels use.
#include "simd.h"

#ifdef _OPENMP
#include <omp.h>
#endif

int set_threads(int count) {
#ifdef _OPENMP
    int before = omp_get_max_threads();
    if (count > 0) omp_set_num_threads(count);
    return before;
#else
    (void) count;
    return 1;
#endif
}
